//! Asks every cell and every agent until all of them answer, from where users and operator stand.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::layout::{Ask, Check, Layout};

/// One attempt.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between attempts, longer each time: what is starting needs the processor itself.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_millis(300);

/// Runs the checks on threads of their own, one for each place that is asked from.
pub fn watch(layout: &Layout, namespaces: &Namespaces) -> Result<oneshot::Receiver<Result<()>>> {
    let mut by_place: BTreeMap<String, Vec<Check>> = BTreeMap::new();
    for check in &layout.checks {
        by_place
            .entry(check.from.clone())
            .or_default()
            .push(check.clone());
    }
    let limit = layout.kind.builder().patience();
    let mut threads = Vec::new();
    for (place, checks) in by_place {
        let namespace = namespaces.get(&place)?.try_clone();
        let namespace = namespace.map_err(Error::kernel("keep a descriptor of a namespace"))?;
        threads.push(std::thread::spawn(move || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(Error::kernel(format!("enter the namespace of {place}")))?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(Error::kernel("start a runtime"))?;
            let all = checks.into_iter().map(|check| until_answered(check, limit));
            runtime
                .block_on(futures::future::try_join_all(all))
                .map(|_| ())
        }));
    }
    let (done, outcome) = oneshot::channel();
    std::thread::spawn(move || {
        let joined = threads.into_iter().try_for_each(|thread| {
            let panicked = || Error::Start("a check of the lab panicked".to_string());
            thread.join().unwrap_or_else(|_| Err(panicked()))
        });
        // Nobody waits any more when the lab is ending.
        let _ = done.send(joined);
    });
    Ok(outcome)
}

async fn until_answered(check: Check, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSE;
    loop {
        let attempt = match timeout(ATTEMPT, attempt(&check)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::other(format!("no answer within {ATTEMPT:?}"))),
        };
        let Err(error) = attempt else { return Ok(()) };
        if Instant::now() > deadline {
            let asked = match &check.ask {
                Ask::Connect => "a connection to".to_string(),
                Ask::Http { path, status } => format!("GET {path} (for {status}) of"),
                Ask::Dns { name } => format!("the address of {name} at"),
            };
            return Err(Error::Start(format!(
                "{} still has no luck with {asked} {} after {} s: {error}",
                check.from,
                check.to,
                limit.as_secs()
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

async fn attempt(check: &Check) -> io::Result<()> {
    match &check.ask {
        Ask::Connect => TcpStream::connect(check.to).await.map(|_| ()),
        Ask::Http { path, status } => http(check.to, path, *status).await,
        Ask::Dns { name } => dns(check.to, name).await,
    }
}

async fn http(to: SocketAddr, path: &str, status: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200` is all that is wanted.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    let answered = String::from_utf8_lossy(&head);
    match answered.ends_with(&format!(" {status}")) {
        true => Ok(()),
        false => Err(io::Error::other(format!("it answered `{answered}`"))),
    }
}

async fn dns(to: SocketAddr, name: &str) -> io::Result<()> {
    let mut query = Message::new(rand_id(), MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(name).map_err(io::Error::other)?;
    query.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(to).await?;
    socket
        .send(&query.to_bytes().map_err(io::Error::other)?)
        .await?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).await?;
    let answer = Message::from_bytes(&answer[..length]).map_err(io::Error::other)?;
    match answer.answers.is_empty() {
        false => Ok(()),
        true => Err(io::Error::other("it answered without an address")),
    }
}

/// The socket is connected and new for each query, so any id will do.
fn rand_id() -> u16 {
    std::process::id() as u16
}
