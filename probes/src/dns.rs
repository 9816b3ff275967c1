//! One DNS question over UDP, asked as a stub resolver asks it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::outcome::Outcome;

/// When a question that was not answered is sent a second time, and for the last time.
pub const RETRY_AFTER: Duration = Duration::from_millis(400);
/// Datagrams above this are not expected (RFC 9715).
const BUFFER: usize = 1232;

/// What is asked, of whom.
#[derive(Clone, Debug)]
pub struct Lookup {
    pub server: SocketAddr,
    pub name: Name,
    /// A or AAAA.
    pub record_type: RecordType,
}

/// What a user takes from an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In the order of the answer; may be none (NODATA).
    pub addresses: Vec<IpAddr>,
    /// How long it may be kept, in seconds: the least of its addresses'.
    pub ttl_s: u32,
}

impl Lookup {
    /// The addresses in the answer.
    pub async fn resolve(&self, deadline: Instant) -> Result<Answer, Outcome> {
        let answer = self.ask(deadline).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(Answer {
                addresses: addresses(&answer),
                ttl_s: records(&answer).map(|(_, ttl_s)| ttl_s).min().unwrap_or(0),
            }),
            code => Err(Outcome::Error(format!("dns: {code}"))),
        }
    }

    /// The answer, whatever it says. One retry within the deadline counts as the same question:
    /// users do not see it, but for its time.
    pub async fn ask(&self, deadline: Instant) -> Result<Message, Outcome> {
        let retry = (Instant::now() + RETRY_AFTER).min(deadline);
        let socket = self
            .socket()
            .await
            .map_err(|error| Outcome::of_io("dns", &error))?;
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.record_type));
        let packet = message
            .to_vec()
            .map_err(|error| Outcome::Error(format!("dns: {error}")))?;
        let mut failure = None;
        for until in [retry, deadline] {
            match timeout_at(until, exchange(&socket, &packet, &message)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    failure = Some(error);
                    if until < deadline {
                        sleep_until(until).await;
                    }
                }
                Err(_) => failure = None,
            }
        }
        Err(match failure {
            Some(error) => Outcome::of_io("dns", &error),
            None => Outcome::Timeout(format!("dns: no answer from {}", self.server)),
        })
    }

    async fn socket(&self) -> io::Result<UdpSocket> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A fresh port and a connected socket: only the server can answer.
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.server).await?;
        Ok(socket)
    }
}

/// Sends, then waits for the answer to this question, passing over anything else that arrives.
async fn exchange(socket: &UdpSocket, packet: &[u8], question: &Message) -> io::Result<Message> {
    socket.send(packet).await?;
    let mut buffer = [0; BUFFER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let answers_it = answer.metadata.message_type == MessageType::Response
            && answer.metadata.id == question.metadata.id
            && answer.queries == question.queries;
        if answers_it {
            return Ok(answer);
        }
    }
}

/// The addresses of an answer, in its order.
pub fn addresses(answer: &Message) -> Vec<IpAddr> {
    records(answer).map(|(address, _)| address).collect()
}

/// Each address with its TTL in seconds.
fn records(answer: &Message) -> impl Iterator<Item = (IpAddr, u32)> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let records = answer.answers.iter();
    records.filter_map(move |record| Some((address(&record.data)?, record.ttl)))
}
