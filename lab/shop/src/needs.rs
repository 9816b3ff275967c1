//! What a part must be granted from elsewhere before it takes a checkout or an order.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use clap::ValueEnum;
use serde_json::json;
use std::net::SocketAddr;
use tokio::time::Instant;

use crate::client::Caller;
use crate::shared::{Grant, LUMP};

const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// After a lump of quota was not granted, for so long nobody asks again.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Between renewals, and between attempts while there is nothing to renew.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// As a cached set of signing keys: nobody notices for a while that they are not renewed.
const KEYS_LAST: Duration = Duration::from_secs(40);
const LEASE_LASTS: Duration = Duration::from_secs(3);
/// An unsynchronised clock is taken to be wrong by this much more each second, in ms, ...
const CLOCK_ERROR_GROWTH: u32 = 100;
/// ... and is of no use when it may be wrong by this much.
const CLOCK_ERROR_MAX: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Flaw: take no checkout and no order without this from there; repeat for several
    #[arg(long = "needs", value_name = "KIND=IP:PORT")]
    needs: Vec<Need>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Every request's token is checked
    Token,
    /// A share of what all cells together may do, taken in lumps
    Quota,
    /// Signing keys that are renewed, and good for 40 s
    Keys,
    /// The leader's leave to write, good for 3 s
    Lease,
    /// The time, trusted for a few seconds
    Clock,
}

#[derive(Clone)]
struct Need {
    kind: Kind,
    from: SocketAddr,
}

impl FromStr for Need {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, from) = text.split_once('=').ok_or("expected KIND=IP:PORT")?;
        let from = from
            .parse()
            .map_err(|_| format!("`{from}` is no IP address with a port"))?;
        let kind = Kind::from_str(kind, false)
            .map_err(|_| format!("`{kind}` is none of token, quota, keys, lease, clock"))?;
        Ok(Self { kind, from })
    }
}

/// What is missing, for the people who read a drill.
struct Missing {
    status: StatusCode,
    part: &'static str,
    why: String,
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let body = json!({ "error": format!("{}: {}", self.part, self.why), "part": self.part });
        (self.status, Json(body)).into_response()
    }
}

/// Puts the needs in front of a router; without any it stays as it is.
pub fn guard(router: Router, options: &Options) -> Router {
    if options.needs.is_empty() {
        return router;
    }
    let held: Vec<Held> = options.needs.iter().map(Held::start).collect();
    router.layer(middleware::from_fn_with_state(Arc::new(held), check))
}

/// Checkouts and whatever is done to orders; the page, health and reads need nothing.
fn is_business(request: &Request) -> bool {
    let path = request.uri().path();
    let order = path == "/orders" || path.starts_with("/orders/");
    path == "/checkout" || (order && request.method() != Method::GET)
}

async fn check(State(held): State<Arc<Vec<Held>>>, request: Request, next: Next) -> Response {
    if is_business(&request) {
        for need in held.iter() {
            if let Err(missing) = need.met().await {
                return missing.into_response();
            }
        }
    }
    next.run(request).await
}

/// One need, and what is held of it.
enum Held {
    Token(Caller),
    Quota(Caller, tokio::sync::Mutex<Lump>),
    Renewed(&'static str, GoodUntil),
}

#[derive(Default)]
struct Lump {
    left: u64,
    refused_until: Option<Instant>,
}

type GoodUntil = Arc<Mutex<Option<Instant>>>;

impl Held {
    fn start(need: &Need) -> Self {
        let caller = Caller::new(need.from, ASK_TIMEOUT);
        let (name, path) = match need.kind {
            Kind::Token => return Self::Token(caller),
            Kind::Quota => return Self::Quota(caller, tokio::sync::Mutex::default()),
            Kind::Keys => ("keys", "/keys"),
            Kind::Lease => ("lease", "/lease"),
            Kind::Clock => ("clock", "/time"),
        };
        let good_until = GoodUntil::default();
        tokio::spawn(renew(caller, need.kind, path, Arc::clone(&good_until)));
        Self::Renewed(name, good_until)
    }

    async fn met(&self) -> Result<(), Missing> {
        match self {
            Self::Token(caller) => match caller.get("/token").await {
                Ok(_) => Ok(()),
                Err(why) => Err(missing(StatusCode::UNAUTHORIZED, "auth", why)),
            },
            Self::Quota(caller, lump) => take(caller, &mut *lump.lock().await).await,
            Self::Renewed(name, good_until) => {
                let until = *good_until.lock().unwrap_or_else(PoisonError::into_inner);
                match until.is_some_and(|until| Instant::now() < until) {
                    true => Ok(()),
                    false => Err(missing(
                        StatusCode::SERVICE_UNAVAILABLE,
                        name,
                        "not renewed in time".to_owned(),
                    )),
                }
            }
        }
    }
}

fn missing(status: StatusCode, part: &'static str, why: String) -> Missing {
    Missing { status, part, why }
}

/// One unit of the quota; a limiter that cannot be asked lets nobody through.
async fn take(caller: &Caller, lump: &mut Lump) -> Result<(), Missing> {
    let refusal = |why| missing(StatusCode::TOO_MANY_REQUESTS, "rate limit", why);
    if lump.left == 0 {
        if lump
            .refused_until
            .is_some_and(|until| Instant::now() < until)
        {
            return Err(refusal("was not granted a moment ago".to_owned()));
        }
        let granted = caller.get(&format!("/quota/{LUMP}")).await;
        let granted = granted.and_then(|body| {
            serde_json::from_slice::<Grant>(&body).map_err(|error| error.to_string())
        });
        match granted {
            Ok(Grant { granted: 0 }) => {
                lump.refused_until = Some(Instant::now() + REFUSED_FOR);
                return Err(refusal("used up".to_owned()));
            }
            Ok(Grant { granted }) => lump.left = granted,
            Err(why) => {
                lump.refused_until = Some(Instant::now() + REFUSED_FOR);
                return Err(refusal(why));
            }
        }
    }
    lump.left -= 1;
    Ok(())
}

/// For ever: asks, and says until when the answer is good.
async fn renew(caller: Caller, kind: Kind, path: &'static str, good_until: GoodUntil) {
    loop {
        let asked = Instant::now();
        let pause = match caller.get(path).await {
            Ok(_) => {
                let lasts = lasts(kind, asked.elapsed());
                let mut until = good_until.lock().unwrap_or_else(PoisonError::into_inner);
                *until = Some(asked + lasts);
                RENEW_EVERY
            }
            Err(why) => {
                tracing::warn!("{path} of {} is not renewed: {why}", caller.to);
                RETRY_AFTER
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// How long an answer is good that took so long to come.
fn lasts(kind: Kind, round_trip: Duration) -> Duration {
    match kind {
        Kind::Keys => KEYS_LAST,
        Kind::Lease => LEASE_LASTS,
        // The time is known to half a round trip, and less so with every second.
        _ => CLOCK_ERROR_MAX.saturating_sub(round_trip / 2) * 1000 / CLOCK_ERROR_GROWTH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_a_kind_and_a_place() {
        let need: Need = "quota=10.0.0.1:8083".parse().unwrap();
        assert_eq!(need.kind, Kind::Quota);
        for wrong in ["quota", "quota=", "luck=10.0.0.1:1", "quota=host:1"] {
            assert!(wrong.parse::<Need>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_was_asked_slowly_is_trusted_for_less_time() {
        let soon = lasts(Kind::Clock, Duration::ZERO);
        assert_eq!(soon, Duration::from_secs(5));
        assert_eq!(
            lasts(Kind::Clock, Duration::from_millis(400)),
            Duration::from_secs(3)
        );
        assert_eq!(lasts(Kind::Clock, Duration::from_secs(2)), Duration::ZERO);
    }
}
