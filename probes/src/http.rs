//! One HTTP/1.1 question over a fresh or a kept connection, with or without TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::outcome::Outcome;
use crate::target::Target;

/// Bytes of a response that are read; more is an error.
const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of a wrong answer that are quoted.
pub const QUOTED: usize = 200;

/// Whether a line is the answer (`Some(true)`), comes before it (`None`), or shows that none will
/// come (`Some(false)`).
pub type Until = fn(&[u8]) -> Option<bool>;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub target: Target,
    pub method: Method,
    pub body: Bytes,
    pub authorization: Option<HeaderValue>,
    /// The drill whose load this is; says so in a header.
    pub load: Option<HeaderValue>,
    /// For an answer that does not end by itself: called with each line of a 200 until it decides.
    /// The connection is lost.
    pub until: Option<Until>,
}

/// How a server over TLS is spoken to.
#[derive(Clone)]
pub struct Secure {
    pub tls: TlsConnector,
    /// What its certificate must be for.
    pub name: ServerName<'static>,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Bytes,
}

/// How far a probe has come, for the text of a timeout.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

const STEPS: [&str; 5] = [
    "resolving",
    "connecting",
    "waiting for the response",
    "reading the body",
    "shaking hands (TLS)",
];

impl Progress {
    pub fn text(&self) -> &'static str {
        STEPS
            .get(usize::from(self.0.load(Ordering::Relaxed)))
            .copied()
            .unwrap_or("working")
    }

    fn reach(&self, step: u8) {
        self.0.store(step, Ordering::Relaxed);
    }
}

/// A connection and the task that drives it; dropping it closes it at once.
struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The kept connections of one stream. One that failed, or that a probe was waiting for when its
/// time ran out, is gone: an established connection can stay silent long after an outage.
#[derive(Default)]
pub struct Connections {
    idle: Mutex<Vec<Connection>>,
    /// Without it the server is spoken to in the clear.
    secure: Option<Secure>,
}

/// Kept at most: more than this are never idle at once in a stream.
const IDLE: usize = 8;

/// Why a connection gave no reply.
struct Broken {
    outcome: Outcome,
    /// Closed by the server before a response began.
    closed: bool,
    /// The request was never sent.
    unsent: bool,
}

impl Connections {
    pub fn over_tls(secure: Secure) -> Self {
        Self {
            idle: Mutex::default(),
            secure: Some(secure),
        }
    }

    /// Asks once. `fresh` never takes nor leaves a kept connection.
    ///
    /// A kept connection may have been closed by the server in the very moment it is used, which is
    /// a race of every HTTP client and no failure: then the question goes over a new connection,
    /// once, if it was never sent, or if it is a GET and no response had begun (RFC 9112 9.3.1).
    pub async fn ask(
        &self,
        question: &Question,
        fresh: bool,
        progress: &Progress,
    ) -> Result<Reply, Outcome> {
        progress.reach(2);
        let kept = if fresh {
            None
        } else {
            self.take(question.target.address)
        };
        if let Some(mut kept) = kept {
            match kept.exchange(question, false, progress).await {
                Ok(reply) => {
                    self.keep(kept);
                    return Ok(reply);
                }
                Err(broken) if broken.unsent => {}
                Err(broken) if broken.closed && question.method == Method::GET => {}
                Err(broken) => return Err(broken.outcome),
            }
        }
        progress.reach(1);
        let mut connection = self.open(question.target.address, progress).await?;
        progress.reach(2);
        let reply = connection.exchange(question, fresh, progress).await;
        if !fresh && reply.is_ok() {
            self.keep(connection);
        }
        reply.map_err(|broken| broken.outcome)
    }

    async fn open(&self, address: SocketAddr, progress: &Progress) -> Result<Connection, Outcome> {
        let step = "connect";
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| Outcome::of_io(step, &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| Outcome::of_io(step, &error))?;
        let Some(secure) = &self.secure else {
            return Connection::over(address, stream).await;
        };
        progress.reach(4);
        let stream = secure
            .tls
            .connect(secure.name.clone(), stream)
            .await
            .map_err(|error| Outcome::of_io("TLS", &error))?;
        Connection::over(address, stream).await
    }

    fn take(&self, address: SocketAddr) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed());
        let index = idle
            .iter()
            .position(|kept| kept.address == address && kept.sender.is_ready())?;
        Some(idle.swap_remove(index))
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }
}

impl Connection {
    async fn over(
        address: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, Outcome> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Outcome::of_http("connect", &error))?;
        // Its error reaches whoever waits for the response.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            address,
            sender,
            driver,
        })
    }

    async fn exchange(
        &mut self,
        question: &Question,
        last: bool,
        progress: &Progress,
    ) -> Result<Reply, Broken> {
        let failed = |outcome| Broken {
            outcome,
            closed: false,
            unsent: false,
        };
        let request = request(question, last).map_err(|why| failed(Outcome::Error(why)))?;
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                let outcome = Outcome::of_http("waiting for the response", &error);
                return Err(Broken {
                    outcome,
                    closed: error.is_incomplete_message(),
                    unsent,
                });
            }
        };
        progress.reach(3);
        if let (200, Some(until)) = (response.status().as_u16(), question.until) {
            let reply = read_until(response, until).await;
            // The rest of the answer is still to come and nobody wants it.
            self.driver.abort();
            return reply.map_err(failed);
        }
        let reply = read(response).await.map_err(failed)?;
        // Only now can the connection take another request.
        if !last && self.sender.ready().await.is_err() {
            self.driver.abort();
        }
        Ok(reply)
    }
}

fn request(question: &Question, last: bool) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(&question.target.path)
        .header(header::HOST, &question.target.host)
        .header(
            header::USER_AGENT,
            concat!("cellwall/", env!("CARGO_PKG_VERSION")),
        );
    if !question.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(authorization) = &question.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if let Some(drill) = &question.load {
        request = request.header("x-cellwall-load", drill);
    }
    if last {
        request = request.header(header::CONNECTION, "close");
    }
    request
        .body(Full::new(question.body.clone()))
        .map_err(|error| format!("request: {error}"))
}

async fn read(response: Response<Incoming>) -> Result<Reply, Outcome> {
    let status = response.status().as_u16();
    match Limited::new(response.into_body(), BODY_LIMIT)
        .collect()
        .await
    {
        Ok(body) => Ok(Reply {
            status,
            body: body.to_bytes(),
        }),
        Err(error) => Err(match error.downcast_ref::<hyper::Error>() {
            Some(error) => Outcome::of_http("reading the body", error),
            None => Outcome::Error(format!("status {status}, reading the body: {error}")),
        }),
    }
}

/// Reads lines until one is the answer.
async fn read_until(mut response: Response<Incoming>, until: Until) -> Result<Reply, Outcome> {
    let status = response.status().as_u16();
    let mut read: Vec<u8> = Vec::new();
    let quoted =
        |line: &[u8]| String::from_utf8_lossy(&line[..line.len().min(QUOTED)]).into_owned();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| Outcome::of_http("reading the body", &error))?;
        read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            match until(&line) {
                None => {}
                Some(true) => {
                    let body = Bytes::from(line);
                    return Ok(Reply { status, body });
                }
                Some(false) => {
                    let why = format!("status {status}, not what was asked for: {}", quoted(&line));
                    return Err(Outcome::Error(why));
                }
            }
        }
        if read.len() > BODY_LIMIT {
            let why = format!(
                "status {status}, reading the body: a line of more than {BODY_LIMIT} bytes"
            );
            return Err(Outcome::Error(why));
        }
    }
    let why = format!(
        "status {status}, the stream ended without the answer: {}",
        quoted(&read)
    );
    Err(Outcome::Error(why))
}
