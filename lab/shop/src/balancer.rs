//! The HTTP balancer in front of a cell: round robin, health checks, failover before sending.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ShopError;
use crate::client::{ClientError, Pool};
use crate::listen;
use crate::metrics::{self, Metrics};

const CHECK_EVERY: Duration = Duration::from_millis(500);
/// A backend that is out is asked more often, so that a cell is whole soon after its start.
const CHECK_EVERY_WHILE_OUT: Duration = Duration::from_millis(100);
const CHECK_TIMEOUT: Duration = Duration::from_millis(300);
/// Two attempts to connect must fit into a request.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// From the request's head to the response's head; below the 1 s that users wait.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(900);

/// Headers that mean one connection only (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(clap::Args)]
pub struct Options {
    /// Where users connect; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// A front to send requests to; repeat for several
    #[arg(long, required = true, value_name = "IP:PORT")]
    backend: Vec<SocketAddr>,
}

struct Backend {
    address: SocketAddr,
    /// In until the first failed check: a balancer that starts with its fronts serves at once.
    healthy: AtomicBool,
}

struct Balancer {
    backends: Vec<Backend>,
    next: AtomicUsize,
    pool: Arc<Pool<Incoming>>,
    metrics: Arc<Metrics>,
}

type Answer = Response<Either<Incoming, Full<Bytes>>>;

pub async fn run(options: Options) -> Result<(), ShopError> {
    let backends = options
        .backend
        .iter()
        .map(|&address| Backend {
            address,
            healthy: AtomicBool::new(true),
        })
        .collect();
    let balancer = Arc::new(Balancer {
        backends,
        next: AtomicUsize::new(0),
        pool: Pool::new(CONNECT_TIMEOUT),
        metrics: Arc::default(),
    });
    for index in 0..balancer.backends.len() {
        tokio::spawn(watch(Arc::clone(&balancer), index));
    }
    let mut listeners = JoinSet::new();
    for listener in listen::tcp_all(&options.listen).await? {
        listeners.spawn(accept(listener, Arc::clone(&balancer)));
    }
    while listeners.join_next().await.is_some() {}
    Ok(())
}

async fn accept(listener: TcpListener, balancer: Arc<Balancer>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, mostly: go on when some were closed.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let balancer = Arc::clone(&balancer);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let balancer = Arc::clone(&balancer);
                async move { Ok::<_, Infallible>(balancer.answer(request, peer).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("connection of {peer}: {error}");
            }
        });
    }
}

impl Balancer {
    /// What users get; the balancer's own metrics beside it, for its fronts have theirs.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if request.uri().path() == "/metrics" {
            return told(&self.metrics);
        }
        let counted = self.metrics.begin(request.uri().path());
        let answer = self.pass_on(request, peer).await;
        counted.answered(answer.status().as_u16());
        answer
    }

    async fn pass_on(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        strip_hop_by_hop(request.headers_mut());
        if let Ok(value) = HeaderValue::from_str(&peer.ip().to_string()) {
            request.headers_mut().insert("x-forwarded-for", value);
        }
        *request.version_mut() = Version::HTTP_11;
        match timeout(REQUEST_TIMEOUT, self.forward(request)).await {
            Ok(answer) => answer,
            Err(_) => refusal(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "balancer: no answer within {} ms",
                    REQUEST_TIMEOUT.as_millis()
                ),
            ),
        }
    }

    /// Tries each healthy backend at most once. Only what was never sent goes to another backend,
    /// which is safe for every method.
    async fn forward(&self, mut request: Request<Incoming>) -> Answer {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.backends.len();
        let mut last = "balancer: no healthy backend".to_owned();
        for offset in 0..count {
            let backend = &self.backends[start.wrapping_add(offset) % count];
            if !backend.healthy.load(Ordering::Relaxed) {
                continue;
            }
            match self.pool.send(backend.address, request).await {
                Ok(mut response) => {
                    strip_hop_by_hop(response.headers_mut());
                    return response.map(Either::Left);
                }
                Err(ClientError::Connect {
                    address,
                    why,
                    request: unsent,
                }) => {
                    backend.set_healthy(false, &why);
                    last = format!("balancer: connect to {address}: {why}");
                    request = *unsent;
                }
                Err(error @ ClientError::Exchange { .. }) => {
                    return refusal(StatusCode::BAD_GATEWAY, format!("balancer: {error}"));
                }
            }
        }
        refusal(StatusCode::SERVICE_UNAVAILABLE, last)
    }
}

impl Backend {
    fn set_healthy(&self, healthy: bool, why: &str) {
        if self.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            let state = if healthy { "in" } else { "out" };
            tracing::warn!("backend {} is {state}: {why}", self.address);
        }
    }
}

async fn watch(balancer: Arc<Balancer>, index: usize) {
    let Some(backend) = balancer.backends.get(index) else {
        return;
    };
    loop {
        let pool = Pool::new(CHECK_TIMEOUT);
        let checked = match timeout(CHECK_TIMEOUT, check(&pool, backend.address)).await {
            Ok(checked) => checked,
            Err(_) => Err("health check timed out".to_owned()),
        };
        match checked {
            Ok(()) => backend.set_healthy(true, "health check passed"),
            Err(why) => backend.set_healthy(false, &why),
        }
        let healthy = backend.healthy.load(Ordering::Relaxed);
        tokio::time::sleep(if healthy {
            CHECK_EVERY
        } else {
            CHECK_EVERY_WHILE_OUT
        })
        .await;
    }
}

async fn check(pool: &Arc<Pool<Empty<Bytes>>>, address: SocketAddr) -> Result<(), String> {
    let request = Request::get("/healthz")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = pool
        .send(address, request)
        .await
        .map_err(|error| error.to_string())?;
    let status = response.status();
    response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("health check answered {status}"))
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn told(metrics: &Metrics) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(metrics.text()))));
    let text = HeaderValue::from_static(metrics::TEXT);
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

fn refusal(status: StatusCode, why: String) -> Answer {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(why))));
    *response.status_mut() = status;
    response
}
