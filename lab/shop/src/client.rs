//! A small HTTP/1.1 client: keeps idle connections and says whether a request was ever sent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Idle connections kept per address.
const IDLE: usize = 16;

/// Bytes of an answer that a [`Caller`] reads.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError<B> {
    /// Nothing was sent; the request comes back so that it can go elsewhere.
    #[error("connect to {address}: {why}")]
    Connect {
        address: SocketAddr,
        why: String,
        request: Box<Request<B>>,
    },
    /// The request may have been acted upon.
    #[error("{address}: {why}")]
    Exchange { address: SocketAddr, why: String },
}

/// Connections by address. Dropping the future of [`Pool::send`] closes its connection.
pub struct Pool<B> {
    connect_timeout: Duration,
    idle: Mutex<HashMap<SocketAddr, Vec<SendRequest<B>>>>,
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub fn new(connect_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            connect_timeout,
            idle: Mutex::default(),
        })
    }

    /// Sends over an idle connection or a new one. An idle connection that turns out to be closed
    /// before it took the request costs nothing: the request then goes over a new one.
    pub async fn send(
        self: &Arc<Self>,
        address: SocketAddr,
        request: Request<B>,
    ) -> Result<Response<Incoming>, ClientError<B>> {
        let mut request = request;
        while let Some(mut sender) = self.take(address) {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep_when_idle(address, sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => {
                        let why = error.into_error().to_string();
                        return Err(ClientError::Exchange { address, why });
                    }
                },
            }
        }
        let mut sender = match self.connect(address).await {
            Ok(sender) => sender,
            Err(why) => {
                return Err(ClientError::Connect {
                    address,
                    why,
                    request: Box::new(request),
                });
            }
        };
        match sender.send_request(request).await {
            Ok(response) => {
                self.keep_when_idle(address, sender);
                Ok(response)
            }
            Err(error) => Err(ClientError::Exchange {
                address,
                why: error.to_string(),
            }),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<SendRequest<B>, String> {
        let connecting = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            stream
                .set_nodelay(true)
                .map_err(|error| error.to_string())?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            Ok(sender)
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(format!(
                "no answer within {} ms",
                self.connect_timeout.as_millis()
            )),
        }
    }

    fn take(&self, address: SocketAddr) -> Option<SendRequest<B>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(&address)?;
        while let Some(sender) = senders.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// The connection is free again when the body of its response was read to the end.
    fn keep_when_idle(self: &Arc<Self>, address: SocketAddr, mut sender: SendRequest<B>) {
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let senders = idle.entry(address).or_default();
            if senders.len() < IDLE {
                senders.push(sender);
            }
        });
    }
}

/// Asks one server, each time within the same limit of time; whatever is no success is an error.
pub struct Caller {
    pub to: SocketAddr,
    limit: Duration,
    pool: Arc<Pool<Full<Bytes>>>,
}

impl Caller {
    pub fn new(to: SocketAddr, limit: Duration) -> Self {
        let pool = Pool::new(limit);
        Self { to, limit, pool }
    }

    pub async fn get(&self, path: &str) -> Result<Bytes, String> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: Bytes) -> Result<Bytes, String> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.to.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let asked = async {
            let response = self.pool.send(self.to, request).await;
            let response = response.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT);
            let body = body.collect().await.map_err(|error| error.to_string())?;
            match status.is_success() {
                true => Ok(body.to_bytes()),
                false => Err(format!("{} answered {status}", self.to)),
            }
        };
        match tokio::time::timeout(self.limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{} did not answer in time", self.to)),
        }
    }
}
