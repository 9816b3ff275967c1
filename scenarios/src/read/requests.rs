//! Checks of probes and entrypoints: URLs and their placeholders, limits, shares.

use std::time::Duration;

use crate::fleet::{Ask, Entrypoint, Fleet, HttpMethod, HttpRequest, Plane, Probe};
use crate::input::InputError;
use crate::places::Places;
use crate::read::rewrites;

/// Longest time that one probe may wait for its answer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// Shares may miss 100% by this much, for thirds; they are scaled to add up exactly.
const SHARE_SLACK: f64 = 0.000_15;

pub(super) fn probe(
    fleet: &Fleet,
    probe: &Probe,
    path: &str,
    places: &Places,
) -> Result<(), InputError> {
    if probe.plane == Plane::Entrypoint {
        let path = format!("{path}.plane");
        return Err(
            InputError::at_value(places, &path, "a probe is not an entrypoint")
                .with_valid(["data", "control", "dependency"])
                .with_hint("what users call through DNS stands under spec.entrypoints"),
        );
    }
    let http = match &probe.ask {
        Ask::Http(http) => http,
        Ask::Kubernetes(_) => return kubernetes(fleet, probe, path, places),
    };
    request(http, "cell", &format!("{path}.http"), places)?;
    if let Some((name, _)) = fleet
        .cells
        .iter()
        .find(|(_, cell)| cell.addresses.is_empty())
    {
        let message = format!("cell {name} has no addresses, so {{cell}} means nothing there");
        return Err(
            InputError::at_value(places, &format!("{path}.http.url"), message)
                .with_hint("write addresses: [...] for the cell: what its users connect to"),
        );
    }
    limits(probe.timeout, probe.slo, path, places)?;
    rewrites::check(probe, path, places)?;
    let Some(read_back) = &probe.read_back else {
        return deletes(http, path, places);
    };
    let at = format!("{path}.readBack");
    url(read_back, "cell", &at, places)?;
    let fresh = |text: &str| text.contains("{id}");
    if !matches!(http.method, HttpMethod::Post | HttpMethod::Put) {
        let message = match http.method {
            HttpMethod::Delete => "readBack is for probes that write; this one deletes",
            _ => "readBack is for probes that write; this one is a GET",
        };
        return Err(InputError::at_key(places, &at, message));
    }
    if !fresh(read_back) {
        return Err(InputError::at_value(
            places,
            &at,
            "{id} is missing: which write is read back?",
        ));
    }
    if !fresh(&http.url) && !http.body.as_deref().is_some_and(fresh) {
        let message = "neither url nor body holds {id}, so no write could be read back";
        return Err(InputError::at_value(
            places,
            &format!("{path}.http.url"),
            message,
        ));
    }
    Ok(())
}

/// A probe that only deletes has nothing to delete.
fn deletes(http: &HttpRequest, path: &str, places: &Places) -> Result<(), InputError> {
    if http.method != HttpMethod::Delete {
        return Ok(());
    }
    let message = "a probe that deletes must write first";
    let path = format!("{path}.http.method");
    Err(InputError::at_value(places, &path, message)
        .with_valid(["GET", "POST", "PUT"])
        .with_hint("write `delete: { url: ... }` beside the http of a probe with readBack"))
}

/// A probe of the API servers: every cell must have one, or its control plane would go unseen.
fn kubernetes(fleet: &Fleet, probe: &Probe, path: &str, places: &Places) -> Result<(), InputError> {
    if probe.plane != Plane::Control {
        let message = "the Kubernetes API is the control plane of a cell";
        let path = format!("{path}.plane");
        return Err(InputError::at_value(places, &path, message).with_valid(["control"]));
    }
    if probe.rewrites.update.is_some() || probe.rewrites.delete.is_some() {
        rewrites::check(probe, path, places)?;
    }
    if probe.read_back.is_some() {
        let message = "readBack is for probes that write, and nothing is written to Kubernetes";
        return Err(InputError::at_key(
            places,
            &format!("{path}.readBack"),
            message,
        ));
    }
    let bare: Vec<&str> = fleet
        .cells
        .iter()
        .filter(|(_, cell)| cell.kubernetes.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if let Some(first) = bare.first() {
        let message = if bare.len() == fleet.cells.len() {
            "no cell has a Kubernetes API to ask".to_owned()
        } else {
            format!("cell {first} has no Kubernetes API to ask, and a probe asks every cell")
        };
        let hint = "write kubernetes: { kubeconfig: FILE, context: NAME } for each cell";
        let path = format!("{path}.kubernetes");
        return Err(InputError::at_value(places, &path, message).with_hint(hint));
    }
    limits(probe.timeout, probe.slo, path, places)
}

/// The entrypoint, its shares scaled to add up to exactly 1.
pub(super) fn entrypoint(
    fleet: &Fleet,
    name: &str,
    mut entrypoint: Entrypoint,
    path: &str,
    places: &Places,
) -> Result<Entrypoint, InputError> {
    if fleet.cells.contains_key(name) || name == "control" {
        let message = format!("`{name}` already names a cell or the prober's own streams");
        return Err(InputError::at_key(places, path, message));
    }
    let regions: Vec<&String> = fleet.cells.values().map(|cell| &cell.region).collect();
    if !regions.contains(&&entrypoint.region) {
        let message = format!("unknown region `{}`: no cell is in it", entrypoint.region);
        let mut valid = regions;
        valid.sort();
        valid.dedup();
        let path = format!("{path}.region");
        return Err(InputError::at_value(places, &path, message).with_valid(valid));
    }
    dns_name(&entrypoint.dns.name, &format!("{path}.dns.name"), places)?;
    shares(fleet, &mut entrypoint, &format!("{path}.shares"), places)?;
    request(&entrypoint.http, "address", &format!("{path}.http"), places)?;
    limits(entrypoint.timeout, entrypoint.slo, path, places)?;
    rewrites::clients(&entrypoint.clients, path, places)?;
    Ok(entrypoint)
}

fn shares(
    fleet: &Fleet,
    entrypoint: &mut Entrypoint,
    path: &str,
    places: &Places,
) -> Result<(), InputError> {
    for (name, share) in &entrypoint.shares {
        let at = format!("{path}.{name}");
        let message = match fleet.cells.get(name) {
            None => format!("unknown cell `{name}`"),
            Some(cell) if cell.region != entrypoint.region => {
                format!(
                    "cell {name} is in region {}, not {}",
                    cell.region, entrypoint.region
                )
            }
            Some(cell) if cell.addresses.is_empty() => {
                format!("cell {name} has no addresses for DNS to answer with")
            }
            Some(_) if *share == 0.0 => {
                "a cell without a share is left out, not written as 0%".to_owned()
            }
            Some(_) => continue,
        };
        let here = fleet
            .cells
            .iter()
            .filter(|(_, cell)| cell.region == entrypoint.region);
        return Err(InputError::at_key(places, &at, message).with_valid(here.map(|(name, _)| name)));
    }
    let sum: f64 = entrypoint.shares.values().sum();
    if (sum - 1.0).abs() > SHARE_SLACK {
        let message = format!(
            "the shares add up to {}%, not 100%",
            (sum * 1e4).round() / 1e2
        );
        return Err(InputError::at_key(places, path, message));
    }
    entrypoint
        .shares
        .values_mut()
        .for_each(|share| *share /= sum);
    Ok(())
}

fn dns_name(name: &str, path: &str, places: &Places) -> Result<(), InputError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() <= 253 && bare.split('.').all(label) {
        return Ok(());
    }
    Err(
        InputError::at_value(places, path, format!("`{name}` is not a DNS name"))
            .with_hint("write for instance shop.example"),
    )
}

pub(super) fn request(
    http: &HttpRequest,
    host: &str,
    path: &str,
    places: &Places,
) -> Result<(), InputError> {
    url(&http.url, host, &format!("{path}.url"), places)?;
    if http.body.is_some() && http.method == HttpMethod::Get {
        let message = "a GET has no body";
        return Err(InputError::at_key(places, &format!("{path}.body"), message)
            .with_hint("write method: POST beside it"));
    }
    if !(100..=599).contains(&http.expect_status) {
        let message = format!("{} is not an HTTP status (100 to 599)", http.expect_status);
        return Err(InputError::at_value(
            places,
            &format!("{path}.expect.status"),
            message,
        ));
    }
    Ok(())
}

/// `http://{HOST}[:PORT]/...`, where HOST is the placeholder of what is probed: a probe of a fixed
/// host would say nothing about a cell.
fn url(url: &str, host: &str, path: &str, places: &Places) -> Result<(), InputError> {
    let wrong = |message: String| Err(InputError::at_value(places, path, message));
    let placeholder = format!("{{{host}}}");
    let hint = format!("write for instance http://{placeholder}/");
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong("the URL does not begin with http://, the only scheme probed so far".into())
            .map_err(|error| error.with_hint(hint));
    };
    if url
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii())
    {
        return wrong("a URL holds only visible ASCII characters; encode others as %XX".into());
    }
    let (authority, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some(port) = authority.strip_prefix(&placeholder) else {
        return wrong(format!("the host of the URL is not {placeholder}"))
            .map_err(|error| error.with_hint(hint));
    };
    let number = port.strip_prefix(':').map(str::parse::<u16>);
    if !port.is_empty() && !matches!(number, Some(Ok(1..))) {
        return wrong(format!("`{port}` behind {placeholder} is not a port"));
    }
    let unknown = tail.replace("{id}", "").replace(&placeholder, "");
    match unknown.contains(['{', '}']) {
        true => wrong("unknown placeholder in the URL".into())
            .map_err(|error| error.with_valid([placeholder.as_str(), "{id}"])),
        false => Ok(()),
    }
}

fn limits(
    timeout: Duration,
    slo: Option<Duration>,
    path: &str,
    places: &Places,
) -> Result<(), InputError> {
    let words = |duration| humantime::format_duration(duration).to_string();
    if !(SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout) {
        let message = format!("timeout {} is out of range: 10ms to 10s", words(timeout));
        return Err(InputError::at_value(
            places,
            &format!("{path}.timeout"),
            message,
        ));
    }
    match slo {
        Some(slo) if slo.is_zero() => {
            let message = "an slo of 0s is missed by every answer";
            Err(InputError::at_value(
                places,
                &format!("{path}.slo"),
                message,
            ))
        }
        Some(slo) if slo >= timeout => {
            let message = format!(
                "slo {} is not below the timeout {}, so no answer could ever be slow",
                words(slo),
                words(timeout)
            );
            Err(InputError::at_value(
                places,
                &format!("{path}.slo"),
                message,
            ))
        }
        _ => Ok(()),
    }
}
