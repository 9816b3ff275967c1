//! What users of a cell talk to: a static page, the checkout, and orders.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request as Incoming;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::ShopError;
use crate::capacity;
use crate::client::Pool;
use crate::detour::{self, Detour};
use crate::listen;
use crate::metrics::{self, Metrics};
use crate::needs;
use crate::pricing::Price;
use crate::release::{self, Life};
use crate::resolve::{self, ResolveError};

/// All of a request's waiting together; the balancer gives up after 900 ms, users after 1 s.
const TOTAL_TIMEOUT: Duration = Duration::from_millis(850);
const PRICE_TIMEOUT: Duration = Duration::from_millis(400);
/// Bytes of an order or of another part's answer.
const BODY_LIMIT: usize = 4096;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// The pricing service by name; resolved anew for every checkout
    #[arg(long, value_name = "NAME:PORT")]
    pricing_host: Host,
    /// The DNS server to ask
    #[arg(long, value_name = "IP:PORT")]
    resolver: SocketAddr,
    /// The order store; a name is resolved anew for every order
    #[arg(long, value_name = "IP:PORT|NAME:PORT")]
    store: Place,
    #[command(flatten)]
    detour: detour::Options,
    #[command(flatten)]
    needs: needs::Options,
    #[command(flatten)]
    capacity: capacity::Options,
    #[command(flatten)]
    release: release::Options,
}

/// Where another part is: at an address, or wherever its name says.
#[derive(Clone)]
enum Place {
    Address(SocketAddr),
    Name(Host),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

/// A host name with a port.
#[derive(Clone)]
struct Host {
    name: String,
    port: u16,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = text.rsplit_once(':').ok_or("expected NAME:PORT")?;
        let port = port
            .parse()
            .map_err(|_| format!("`{port}` is not a port"))?;
        resolve::name(name).map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            port,
        })
    }
}

struct Front {
    pricing: Host,
    resolver: SocketAddr,
    store: Place,
    detour: Detour,
    pool: Arc<Pool<Full<Bytes>>>,
}

/// An answer that names the part that failed, for the people who read a drill.
struct Failure {
    status: StatusCode,
    part: &'static str,
    why: String,
}

impl Failure {
    fn gateway(part: &'static str, why: impl fmt::Display) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            part,
            why: why.to_string(),
        }
    }

    fn late(part: &'static str, why: impl fmt::Display) -> Self {
        Self {
            status: StatusCode::GATEWAY_TIMEOUT,
            part,
            why: why.to_string(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "error": format!("{}: {}", self.part, self.why), "part": self.part });
        (self.status, Json(body)).into_response()
    }
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let life = Arc::new(Life::begin(&options.release).await);
    let (shown, healthy) = (Arc::clone(&life), Arc::clone(&life));
    let front = Arc::new(Front {
        pricing: options.pricing_host,
        resolver: options.resolver,
        store: options.store,
        detour: Detour::new(options.detour),
        pool: Pool::new(PRICE_TIMEOUT),
    });
    let metrics = Arc::new(Metrics::default());
    let told = Arc::clone(&metrics);
    let router = Router::new()
        .route("/", get(move || async move { shown.page.clone() }))
        .route("/healthz", get(move || async move { healthy.health() }))
        .route("/checkout", get(checkout))
        .route("/orders", post(place_order))
        .route("/orders/{id}", get(an_order).put(an_order).delete(an_order))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(metrics, count))
        .route(
            "/metrics",
            get(|| async move { ([(header::CONTENT_TYPE, metrics::TEXT)], told.text()) }),
        )
        .with_state(front);
    let router = capacity::limit(needs::guard(router, &options.needs), &options.capacity);
    tokio::select! {
        served = listen::serve(&options.listen, router) => Ok(served?),
        () = life.end() => Ok(()),
    }
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Incoming, next: Next) -> Response {
    let counted = metrics.begin(request.uri().path());
    let response = next.run(request).await;
    counted.answered(response.status().as_u16());
    response
}

async fn checkout(State(front): State<Arc<Front>>) -> Result<Json<Price>, Failure> {
    let deadline = Instant::now() + TOTAL_TIMEOUT;
    let address = match front.detour.next() {
        Some(elsewhere) => elsewhere,
        None => front.resolve(&front.pricing, deadline).await?,
    };
    let asked = front.send("pricing", address, Method::GET, "/price", Bytes::new());
    let limit = deadline.min(Instant::now() + PRICE_TIMEOUT);
    let (status, body) = match timeout_at(limit, asked).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(Failure::late(
                "pricing",
                format!("{address} did not answer in time"),
            ));
        }
    };
    if status != StatusCode::OK {
        return Err(Failure::gateway(
            "pricing",
            format!("{address} answered {status}"),
        ));
    }
    match serde_json::from_slice(&body) {
        Ok(price) => Ok(Json(price)),
        Err(error) => Err(Failure::gateway(
            "pricing",
            format!("{address} sent no price: {error}"),
        )),
    }
}

async fn place_order(State(front): State<Arc<Front>>, body: Bytes) -> Result<Response, Failure> {
    front.ask_store(Method::POST, "/orders", body).await
}

/// Reads, updates or deletes it.
async fn an_order(
    State(front): State<Arc<Front>>,
    Path(id): Path<String>,
    method: Method,
    body: Bytes,
) -> Result<Response, Failure> {
    // The store has the last word on ids; this only keeps a foreign path out of its request line.
    if !crate::store::is_order_id(&id) {
        let why = "an order id is 1 to 128 of A-Z a-z 0-9 _ . -";
        return Err(Failure {
            status: StatusCode::BAD_REQUEST,
            part: "front",
            why: why.to_owned(),
        });
    }
    front
        .ask_store(method, &format!("/orders/{id}"), body)
        .await
}

impl Front {
    async fn resolve(&self, host: &Host, deadline: Instant) -> Result<SocketAddr, Failure> {
        let resolving = resolve::resolve(self.resolver, &host.name);
        match timeout_at(deadline, resolving).await {
            Ok(Ok(address)) => Ok(SocketAddr::new(address, host.port)),
            Ok(Err(error @ ResolveError::Silent { .. })) => Err(Failure::late("resolver", error)),
            Ok(Err(error)) => Err(Failure::gateway("resolver", error)),
            Err(_) => Err(Failure::late("resolver", "no time left")),
        }
    }

    async fn ask_store(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let store = match &self.store {
            Place::Address(address) => *address,
            Place::Name(host) => self.resolve(host, deadline).await?,
        };
        let asked = self.send("store", store, method, path, body);
        match timeout_at(deadline, asked).await {
            Ok(Ok((status, body))) => {
                Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::late(
                "store",
                format!("{store} did not answer in time"),
            )),
        }
    }

    async fn send(
        &self,
        part: &'static str,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::gateway(part, error))?;
        let response = self
            .pool
            .send(address, request)
            .await
            .map_err(|error| Failure::gateway(part, error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| Failure::gateway(part, format!("{address}: {error}")))?;
        Ok((status, body.to_bytes()))
    }
}
