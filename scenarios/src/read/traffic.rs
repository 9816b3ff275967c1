//! The YAML shape of real traffic and gauges, and its checks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::{self, At, UrlHost};
use crate::fleet::{Fleet, Plane};
use crate::input::InputError;
use crate::places::Places;
use crate::prefixes::hold;
use crate::read::Named;
use crate::selector::Selector;
use crate::traffic::{GAUGE_SCRAPES, Gauge, Source, Strata, Traffic, TrafficCounts};
use crate::values::{Name, Percentage, Rate, Scalar, Text};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// A second of the drill is judged when the scrapes at its end are in: none may hold it up for long.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_GAUGE_WITHIN: f64 = 0.2;
/// All blocks end together with a minute, so that a fault can begin where blocks of each stream do.
const MINUTE_MS: u128 = 60_000;

impl Scalar for Selector {
    const NAME: &'static str = "Selector";
    const PATTERN: &'static str = "^[a-zA-Z_:].*$";
    const HOW: &'static str = "a metric with its labels such as requests_total{code=~\"5..\"}";

    fn parse(text: &str) -> Result<Self, String> {
        Selector::parse(text)
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficSpec {
    plane: Plane,
    /// Either this, the URL of a text exposition with `{cell}` for the host, or `prometheus`.
    metrics: Option<String>,
    prometheus: Option<PrometheusServerSpec>,
    /// Counter of all requests that are judged.
    total: Text<Selector>,
    /// Counter of the bad ones among them.
    bad: Text<Selector>,
    /// Counter of every request of the cell; default `total`.
    volume: Option<Text<Selector>>,
    /// Whose requests these are; default all, cellwall's own among them.
    #[serde(default)]
    counts: TrafficCounts,
    strata: Option<StrataSpec>,
    /// Length of a block, from scrape to scrape: 1s to 60s, and a whole part of a minute.
    every: Text<Duration>,
    /// Of one scrape; default 1s, at most 2s.
    timeout: Option<Text<Duration>>,
    /// The fewest requests per second of each stream: the planner counts on them.
    rate: Text<Rate>,
    /// How many more of the requests may be bad than before; default as the scenario says.
    within: Option<Text<Percentage>>,
    /// Least share of all requests of a cell that streams and probes stand for.
    coverage: Option<Text<Percentage>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrometheusServerSpec {
    /// http://ADDRESS:PORT, outside every cloud and cell.
    url: String,
    /// The label whose value is the name of the cell.
    cell_label: String,
}

/// Requests apart by the value of one label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StrataSpec {
    label: String,
    /// Name -> value of the label; each is a stream of its own in every cell.
    judged: Named<String>,
    /// Probe -> value of the label for the requests that the probe stands for.
    #[serde(default)]
    probed: Named<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GaugeSpec {
    plane: Plane,
    /// Either this or `prometheus`.
    metrics: Option<String>,
    prometheus: Option<PrometheusServerSpec>,
    /// Of several series the greatest counts.
    gauge: Text<Selector>,
    /// From scrape to scrape: 100ms to 6s; ten are a block, which must be whole seconds and a whole
    /// part of a minute.
    every: Text<Duration>,
    /// Of one scrape; default 1s, at most 2s, and never longer than a block.
    timeout: Option<Text<Duration>>,
    /// Above this a scrape is bad; default the 99th percentile of the first half of the baseline.
    limit: Option<f64>,
    /// How many more of the scrapes may be bad than before; default 20%.
    within: Option<Text<Percentage>>,
}

pub(super) fn traffic(
    fleet: &Fleet,
    name: &str,
    spec: TrafficSpec,
    places: &Places,
) -> Result<Traffic, InputError> {
    let path = format!("spec.traffic.{name}");
    free_name(fleet, name, &path, places)?;
    let plane = plane(spec.plane, &path, places)?;
    let source = source(fleet, plane, spec.metrics, spec.prometheus, &path, places)?;
    let every = block(spec.every.0, 1, &path, places)?;
    let strata = strata(fleet, spec.strata, &path, places)?;
    let timeout = spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
    Ok(Traffic {
        plane,
        source,
        total: spec.total.0,
        bad: spec.bad.0,
        volume: spec.volume.map(|volume| volume.0),
        counts: spec.counts,
        strata,
        every,
        timeout: in_time(timeout, every, &path, places)?,
        rate: spec.rate.0.0,
        within: fraction(spec.within, &format!("{path}.within"), places)?,
        coverage: coverage(spec.coverage, &path, places)?,
    })
}

pub(super) fn gauge(
    fleet: &Fleet,
    name: &str,
    spec: GaugeSpec,
    places: &Places,
) -> Result<Gauge, InputError> {
    let path = format!("spec.gauges.{name}");
    free_name(fleet, name, &path, places)?;
    if fleet.traffic.contains_key(name) {
        let message = format!("`{name}` already names traffic");
        return Err(InputError::at_key(places, &path, message));
    }
    let every = block(spec.every.0, GAUGE_SCRAPES, &path, places)?;
    if let Some(limit) = spec.limit
        && !limit.is_finite()
    {
        let path = format!("{path}.limit");
        return Err(InputError::at_value(places, &path, "a number is wanted"));
    }
    let timeout = spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
    let within = fraction(spec.within, &format!("{path}.within"), places)?;
    let plane = plane(spec.plane, &path, places)?;
    Ok(Gauge {
        plane,
        source: source(fleet, plane, spec.metrics, spec.prometheus, &path, places)?,
        gauge: spec.gauge.0,
        every,
        timeout: in_time(timeout, every * GAUGE_SCRAPES, &path, places)?,
        limit: spec.limit,
        within: within.unwrap_or(DEFAULT_GAUGE_WITHIN),
    })
}

/// Streams are called `CELL/NAME`, whatever they count.
fn free_name(fleet: &Fleet, name: &str, path: &str, places: &Places) -> Result<(), InputError> {
    let what = if fleet.probes.contains_key(name) {
        "a probe"
    } else if fleet.entrypoints.contains_key(name) {
        "an entrypoint"
    } else {
        return Ok(());
    };
    let message = format!("`{name}` already names {what}");
    Err(InputError::at_key(places, path, message))
}

fn plane(plane: Plane, path: &str, places: &Places) -> Result<Plane, InputError> {
    if plane != Plane::Entrypoint {
        return Ok(plane);
    }
    let path = format!("{path}.plane");
    let message = "metrics are of a cell, and an entrypoint is above the cells";
    Err(InputError::at_value(places, &path, message).with_valid(["data", "control", "dependency"]))
}

fn source(
    fleet: &Fleet,
    plane: Plane,
    metrics: Option<String>,
    prometheus: Option<PrometheusServerSpec>,
    path: &str,
    places: &Places,
) -> Result<Source, InputError> {
    match (metrics, prometheus) {
        (Some(url), None) => {
            let at = At::new(fleet, places, plane, path).below("metrics");
            asks::url(&url, UrlHost::Cell, &[], &at)?;
            if url.starts_with("https://") {
                return Err(at.wrong("metrics are scraped over http:// only"));
            }
            Ok(Source::Endpoint(url))
        }
        (None, Some(spec)) => prometheus_of(fleet, spec, &format!("{path}.prometheus"), places),
        (Some(_), Some(_)) => {
            let path = format!("{path}.prometheus");
            let message = "the metrics have one source: metrics or prometheus, not both";
            Err(InputError::at_key(places, &path, message))
        }
        (None, None) => {
            let message = "metrics without a source: metrics or prometheus is missing";
            Err(InputError::at_key(places, path, message))
        }
    }
}

fn prometheus_of(
    fleet: &Fleet,
    spec: PrometheusServerSpec,
    path: &str,
    places: &Places,
) -> Result<Source, InputError> {
    let at = format!("{path}.url");
    let Some(address) = server(&spec.url) else {
        let message = "not http://ADDRESS:PORT, and names are not resolved";
        return Err(InputError::at_value(places, &at, message)
            .with_hint("write for instance http://203.0.113.30:9090"));
    };
    let inside = fleet
        .clouds
        .values()
        .any(|cloud| hold(&cloud.prefixes, address))
        || fleet
            .cells
            .values()
            .any(|cell| hold(&cell.prefixes, address));
    if inside {
        let message = "this Prometheus stands inside a cloud or cell";
        return Err(InputError::at_value(places, &at, message)
            .with_hint("it would go dark with what it has to watch; choose one outside"));
    }
    if Selector::parse(&format!("x{{{}=\"\"}}", spec.cell_label)).is_err() {
        let message = format!("`{}` is not the name of a label", spec.cell_label);
        let path = format!("{path}.cellLabel");
        return Err(InputError::at_value(places, &path, message));
    }
    Ok(Source::Prometheus {
        url: spec.url.trim_end_matches('/').to_owned(),
        cell_label: spec.cell_label,
    })
}

/// The address of `http://ADDRESS[:PORT]`, if it is one.
fn server(url: &str) -> Option<IpAddr> {
    let host = url.strip_prefix("http://")?.trim_end_matches('/');
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse().map(|socket: SocketAddr| socket.ip());
    address.or_else(|_| bare.parse()).ok()
}

/// `every` as it is, if `times` of it fit whole into a minute and are whole seconds.
fn block(every: Duration, times: u32, path: &str, places: &Places) -> Result<Duration, InputError> {
    let block_ms = (every * times).as_millis();
    let whole = every.as_nanos().is_multiple_of(1_000_000)
        && block_ms > 0
        && block_ms.is_multiple_of(1000)
        && MINUTE_MS.is_multiple_of(block_ms);
    if whole {
        return Ok(every);
    }
    let path = format!("{path}.every");
    let message = "blocks of this length do not fit into a minute";
    let valid: &[&str] = match times {
        1 => &["1s", "2s", "3s", "5s", "10s", "15s", "20s", "30s", "60s"],
        _ => &["100ms", "200ms", "300ms", "500ms", "1s", "2s", "3s", "6s"],
    };
    Err(InputError::at_value(places, &path, message).with_valid(valid.iter().copied()))
}

fn in_time(
    timeout: Duration,
    block: Duration,
    path: &str,
    places: &Places,
) -> Result<Duration, InputError> {
    let most = LONGEST_TIMEOUT.min(block);
    if timeout >= Duration::from_millis(10) && timeout <= most {
        return Ok(timeout);
    }
    let message = format!(
        "a scrape may take 10ms to {}",
        humantime::format_duration(most)
    );
    let path = format!("{path}.timeout");
    Err(InputError::at_value(places, &path, message))
}

fn strata(
    fleet: &Fleet,
    spec: Option<StrataSpec>,
    path: &str,
    places: &Places,
) -> Result<Option<Strata>, InputError> {
    let Some(spec) = spec else {
        return Ok(None);
    };
    let path = format!("{path}.strata");
    if Selector::parse(&format!("x{{{}=\"\"}}", spec.label)).is_err() {
        let message = format!("`{}` is not the name of a label", spec.label);
        let path = format!("{path}.label");
        return Err(InputError::at_value(places, &path, message));
    }
    if spec.judged.is_empty() {
        let message = "no stratum is judged, so nothing of this traffic is";
        return Err(InputError::at_value(
            places,
            &format!("{path}.judged"),
            message,
        ));
    }
    let unknown = spec
        .probed
        .keys()
        .find(|Text(Name(name))| !fleet.probes.contains_key(name));
    if let Some(Text(Name(name))) = unknown {
        let path = format!("{path}.probed.{name}");
        let message = format!("unknown probe `{name}`");
        return Err(InputError::at_key(places, &path, message).with_valid(fleet.probes.keys()));
    }
    let named = |map: Named<String>| map.into_iter().map(|(name, value)| (name.0.0, value));
    Ok(Some(Strata {
        label: spec.label,
        judged: named(spec.judged).collect(),
        probed: named(spec.probed).collect(),
    }))
}

/// More than 0%, less than 100%.
fn fraction(
    value: Option<Text<Percentage>>,
    path: &str,
    places: &Places,
) -> Result<Option<f64>, InputError> {
    match value.map(|value| value.0.0) {
        Some(value) if !(value > 0.0 && value < 1.0) => Err(InputError::at_value(
            places,
            path,
            "more than 0% and less than 100% is wanted",
        )),
        value => Ok(value),
    }
}

/// More than 0%; 100% is a good wish.
fn coverage(
    value: Option<Text<Percentage>>,
    path: &str,
    places: &Places,
) -> Result<Option<f64>, InputError> {
    match value.map(|value| value.0.0) {
        Some(value) if value <= 0.0 => Err(InputError::at_value(
            places,
            &format!("{path}.coverage"),
            "a coverage of nothing asks for nothing; leave it out",
        )),
        value => Ok(value),
    }
}

/// How many more of the answers may be slower than usual; of a probe.
pub(crate) fn slower_within(
    value: Option<Text<Percentage>>,
    path: &str,
    places: &Places,
) -> Result<Option<f64>, InputError> {
    fraction(value, &format!("{path}.slowerWithin"), places)
}
