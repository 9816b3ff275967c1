//! What probes ask: one kind of question is one file below and one line here.

mod at;
mod expect;
mod fill;
mod json;
mod place;
mod rewrites;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fleet::{Fleet, Plane, Probe};
use crate::input::InputError;
use crate::places::Places;
use crate::read::traffic;
use crate::values::{Percentage, Rate, Text};

pub(crate) use at::At;
pub use dns::{DnsAnswer, DnsQuery, DnsType, Within};
pub use expect::{Expectation, Statuses};
pub use fill::{cell_values, fill, literal};
pub use grpc::GrpcHealth;
pub use http::{HttpMethod, HttpRequest};
pub(crate) use http::{HttpSpec, UrlHost, url};
pub use journey::{Capture, Journey, JourneyStep};
pub use json::{JsonCheck, JsonPath, JsonWanted};
pub use kubernetes::KubernetesQuestion;
pub use place::Place;
pub use prometheus::{Comparison, Operator, PrometheusQuery};
pub use rewrites::Rewrites;
use rewrites::RewritesSpec;
pub use tcp::TcpConnect;
pub use tls::TlsHandshake;
pub use trust::Trust;

/// Probes per second and cell unless said otherwise.
pub(crate) const DEFAULT_RATE: f64 = 20.0;
/// The same where one question costs its server more than a page does. Still enough for windows of
/// 60 s at the defaults of a verdict.
const COSTLY_RATE: f64 = 16.0;
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// One kind of question: its shape in YAML and what must be right about it.
pub(crate) trait Question: Sized {
    /// What stands below the kind's key.
    type Spec;
    /// Per second and cell, where the file says nothing.
    const RATE: f64 = DEFAULT_RATE;

    /// # Errors
    /// What makes no sense in this fleet, at its place in the file.
    fn read(spec: Self::Spec, at: &At<'_>) -> Result<Self, InputError>;

    /// Requests that a server counts when it is asked once, at most.
    fn requests(&self) -> usize {
        1
    }

    /// Files that it names, as written.
    fn files(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }
}

macro_rules! asks {
    ($($(#[$doc:meta])* $word:ident: $variant:ident($module:ident::$question:ident),)*) => {
        $(mod $module;)*

        /// What a probe asks of a cell.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Ask {
            $($(#[$doc])* $variant($module::$question),)*
        }

        impl Ask {
            /// Every kind that there is, by its key in YAML.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($word)),*];

            /// Files that it names; relative ones are relative to the fleet file.
            pub(crate) fn files(&mut self) -> Vec<&mut PathBuf> {
                match self { $(Self::$variant(question) => question.files(),)* }
            }

            /// Requests that a server counts when it is asked once, at most.
            pub fn requests(&self) -> usize {
                match self { $(Self::$variant(question) => question.requests(),)* }
            }

            fn default_rate(&self) -> f64 {
                match self { $(Self::$variant(_) => <$module::$question as Question>::RATE,)* }
            }
        }

        /// One question, asked of every cell; exactly one of the kinds must be there.
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct ProbeSpec {
            plane: Plane,
            $($(#[$doc])* $word: Option<<$module::$question as Question>::Spec>,)*
            /// URL with `{id}` at which acknowledged writes of an http probe are read back.
            read_back: Option<String>,
            /// Updates an acknowledged write; needs readBack. `{version}` is its new version; default PUT.
            update: Option<HttpSpec>,
            /// Deletes an acknowledged write; needs readBack. Default DELETE.
            delete: Option<HttpSpec>,
            /// Per second and cell; default 20/s, of kubernetes, prometheus and journey 16/s.
            rate: Option<Text<Rate>>,
            /// Default 1s, at most 10s.
            timeout: Option<Text<Duration>>,
            /// Slower than this is bad.
            slo: Option<Text<Duration>>,
            /// How many more of the answers than before may be slower than 1.5 times the 90th percentile of
            /// the first half of the baseline. Absent: that is not judged.
            slower_within: Option<Text<Percentage>>,
        }

        impl ProbeSpec {
            /// The kinds that are written here, in the order of [`Ask::KINDS`].
            fn written(&self) -> Vec<&'static str> {
                let all = [$((stringify!($word), self.$word.is_some())),*];
                all.into_iter().filter(|(_, there)| *there).map(|(word, _)| word).collect()
            }

            fn ask(&mut self, at: &At<'_>) -> Result<Option<Ask>, InputError> {
                $(if let Some(spec) = self.$word.take() {
                    let at = at.below(stringify!($word));
                    return <$module::$question as Question>::read(spec, &at).map(Ask::$variant).map(Some);
                })*
                Ok(None)
            }
        }
    };
}

asks! {
    /// An HTTP request.
    http: Http(http::HttpRequest),
    /// A TCP connection is made.
    tcp: Tcp(tcp::TcpConnect),
    /// A TLS handshake, and how long the certificate holds.
    tls: Tls(tls::TlsHandshake),
    /// A question to a DNS server.
    dns: Dns(dns::DnsQuery),
    /// The health service of gRPC.
    grpc: Grpc(grpc::GrpcHealth),
    /// What the cell's Kubernetes API is asked; plane control.
    kubernetes: Kubernetes(kubernetes::KubernetesQuestion),
    /// An instant query of a Prometheus server.
    prometheus: Prometheus(prometheus::PrometheusQuery),
    /// Several HTTP requests of one user, each with what the ones before it were told.
    journey: Journey(journey::Journey),
}

/// A probe from its YAML; its limits are checked elsewhere.
pub(crate) fn probe(
    mut spec: ProbeSpec,
    fleet: &Fleet,
    path: &str,
    places: &Places,
) -> Result<Probe, InputError> {
    let at = At::new(fleet, places, spec.plane, path);
    let written = spec.written();
    if let [first, second, ..] = written.as_slice() {
        let message = format!("a probe asks one question: {first} or {second}, not both");
        return Err(at
            .below(second)
            .wrong_key(message)
            .with_hint("write two probes, each with its own rate and slo"));
    }
    let Some(ask) = spec.ask(&at)? else {
        let error = at.wrong_key("a probe without a question");
        return Err(error.with_valid(Ask::KINDS));
    };
    let rewrites = RewritesSpec {
        update: spec.update,
        delete: spec.delete,
        read_back: spec.read_back.is_some(),
    };
    Ok(Probe {
        plane: spec.plane,
        rate: spec.rate.map_or(ask.default_rate(), |rate| rate.0.0),
        ask,
        rewrites: Rewrites::read(rewrites, &at)?,
        read_back: spec.read_back,
        timeout: spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
        slo: spec.slo.map(|slo| slo.0),
        slower_within: traffic::slower_within(spec.slower_within, path, places)?,
    })
}
