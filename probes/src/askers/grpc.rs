//! gRPC: `grpc.health.v1.Health/Check`; anything but SERVING is bad. Every other call is over a new
//! connection, the others over a kept one.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use scenarios::asks::{GrpcHealth, literal};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::askers::{Asks, Call, Here};
use crate::dial::{self, Secure};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::{Progress, Step};

/// Kept at most: more than this are never idle at once in a stream.
const IDLE: usize = 8;

pub(crate) struct GrpcAsker {
    address: SocketAddr,
    /// Scheme and authority of every call.
    origin: Uri,
    service: String,
    secure: Option<Secure>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection and the task that drives it; dropping it closes it at once.
struct Connection {
    sender: SendRequest<Body>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Asks for GrpcAsker {
    type Question = GrpcHealth;

    fn new(question: &GrpcHealth, here: &Here<'_>) -> Result<Self, ProbeError> {
        let address = here.address(&question.place)?;
        let trust = question.trust.as_ref();
        let secure = trust.map(|trust| here.secure(trust, address, "h2"));
        let host = trust.and_then(|trust| trust.name.clone());
        let host = host.unwrap_or_else(|| literal(address.ip()));
        let scheme = if trust.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{host}:{}", address.port());
        Ok(Self {
            address,
            origin: origin
                .parse()
                .map_err(|error| here.wrong(format!("{origin}: {error}")))?,
            service: question.service.clone(),
            secure: secure.transpose()?,
            idle: Mutex::default(),
        })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        if let Some(kept) = self.take(call.fresh) {
            match self.check(&kept, call.progress).await {
                // Closed in the very moment it was used: no failure, and asked again.
                Err(Outcome::Reset(_)) => {}
                answer => return self.told(answer, kept),
            }
        }
        let connection = self.open(call.progress).await?;
        let answer = self.check(&connection, call.progress).await;
        match call.fresh {
            true => answer,
            false => self.told(answer, connection),
        }
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.address, progress.text())
    }
}

impl GrpcAsker {
    fn take(&self, fresh: bool) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.sender.is_closed());
        if fresh { None } else { idle.pop() }
    }

    /// The answer; its connection is kept if it is still good.
    fn told(&self, answer: Result<(), Outcome>, connection: Connection) -> Result<(), Outcome> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !connection.sender.is_closed() {
            idle.push(connection);
        }
        answer
    }

    async fn open(&self, progress: &Progress) -> Result<Connection, Outcome> {
        let stream = dial::either(self.address, self.secure.as_ref(), progress).await?;
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| Outcome::of_http("connect", &error))?;
        // Its error reaches whoever waits for the answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, driver })
    }

    async fn check(&self, connection: &Connection, progress: &Progress) -> Result<(), Outcome> {
        progress.reach(Step::Waiting);
        let channel = Channel(connection.sender.clone());
        let mut health = HealthClient::with_origin(channel, self.origin.clone());
        let request = HealthCheckRequest {
            service: self.service.clone(),
        };
        let answer = health
            .check(request)
            .await
            .map_err(|status| failure(&status))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(Outcome::Error(format!("grpc: {}", other.as_str_name()))),
        }
    }
}

/// Why a call failed: on its way, or by the word of the server.
fn failure(status: &Status) -> Outcome {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return Outcome::of_http("grpc", error);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Outcome::of_io("grpc", error);
        }
        source = error.source();
    }
    Outcome::Error(format!("grpc: {:?}: {}", status.code(), status.message()))
}

/// One connection as tonic's clients want it.
struct Channel(SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
