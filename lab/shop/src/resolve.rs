//! A stub resolver for one name at one server, uncached: every checkout feels its resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);
const ATTEMPTS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("`{name}` is no host name: {why}")]
    Name { name: String, why: String },
    #[error("{server} did not answer for {name} ({ATTEMPTS} attempts)")]
    Silent { server: SocketAddr, name: String },
    #[error("{server} cannot be asked for {name}: {source}")]
    Socket {
        server: SocketAddr,
        name: String,
        source: io::Error,
    },
    #[error("{server} answered {code} for {name}")]
    Refused {
        server: SocketAddr,
        name: String,
        code: ResponseCode,
    },
    #[error("{server} knows no address of {name}")]
    NoAddress { server: SocketAddr, name: String },
}

/// Reads a name as fully qualified.
pub fn name(text: &str) -> Result<Name, ResolveError> {
    let mut name = Name::from_ascii(text).map_err(|error| ResolveError::Name {
        name: text.to_owned(),
        why: error.to_string(),
    })?;
    name.set_fqdn(true);
    Ok(name)
}

/// Asks `server` for an IPv4 address, then for an IPv6 address if there is none.
pub async fn resolve(server: SocketAddr, host: &str) -> Result<IpAddr, ResolveError> {
    let name = name(host)?;
    for record_type in [RecordType::A, RecordType::AAAA] {
        if let Some(address) = ask(server, host, &name, record_type).await? {
            return Ok(address);
        }
    }
    Err(ResolveError::NoAddress {
        server,
        name: host.to_owned(),
    })
}

async fn ask(
    server: SocketAddr,
    host: &str,
    name: &Name,
    record_type: RecordType,
) -> Result<Option<IpAddr>, ResolveError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match timeout(ATTEMPT_TIMEOUT, exchange(server, name, record_type)).await {
            Ok(Ok(answer)) => return read(server, host, &answer),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = None,
        }
    }
    let name = host.to_owned();
    Err(match last {
        Some(source) => ResolveError::Socket {
            server,
            name,
            source,
        },
        None => ResolveError::Silent { server, name },
    })
}

/// One datagram out, the one that answers it back; anything else that arrives is passed over.
async fn exchange(server: SocketAddr, name: &Name, record_type: RecordType) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let query = Query::query(name.clone(), record_type);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    socket
        .send(&message.to_vec().map_err(io::Error::other)?)
        .await?;
    let mut buffer = [0; 1232];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        if answer.metadata.id == message.metadata.id
            && answer.metadata.message_type == MessageType::Response
            && answer.queries == [query.clone()]
        {
            return Ok(answer);
        }
    }
}

fn read(server: SocketAddr, host: &str, answer: &Message) -> Result<Option<IpAddr>, ResolveError> {
    let code = answer.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(ResolveError::Refused {
            server,
            name: host.to_owned(),
            code,
        });
    }
    Ok(answer.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }))
}
