//! Checks of probes and entrypoints: limits, read-back, shares.

use std::time::Duration;

use crate::asks::{self, At, UrlHost};
use crate::fleet::{Ask, Entrypoint, Fleet, HttpMethod, Probe};
use crate::input::InputError;
use crate::places::Places;

/// Longest time that one probe may wait for its answer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// Shares may miss 100% by this much, for thirds; they are scaled to add up exactly.
const SHARE_SLACK: f64 = 0.000_15;

/// What is the same for probes of every kind.
pub(super) fn probe(
    fleet: &Fleet,
    probe: &Probe,
    path: &str,
    places: &Places,
) -> Result<(), InputError> {
    limits(probe.timeout, probe.slo, path, places)?;
    let Some(read_back) = &probe.read_back else {
        return Ok(());
    };
    let at = At::new(fleet, places, probe.plane, path).below("readBack");
    let Ask::Http(http) = &probe.ask else {
        let message = "readBack is for http probes that write";
        return Err(at.wrong_key(message));
    };
    asks::url(read_back, UrlHost::Cell, &["id"], &at)?;
    let fresh = |text: &str| text.contains("{id}");
    if matches!(http.method, HttpMethod::Get | HttpMethod::Delete) {
        let word = http.method.word();
        let message = format!("readBack is for probes that write; this one is a {word}");
        return Err(at.wrong_key(message));
    }
    if !fresh(read_back) {
        return Err(at.wrong("{id} is missing: which write is read back?"));
    }
    if !fresh(&http.url) && !http.body.as_deref().is_some_and(fresh) {
        let message = "neither url nor body holds {id}, so no write could be read back";
        return Err(at.beside("http").below("url").wrong(message));
    }
    Ok(())
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
    limits(entrypoint.timeout, entrypoint.slo, path, places)?;
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

/// Whether a text is a DNS name of letters, digits, `-` and `_`, with or without a dot at its end.
pub(crate) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    bare.len() <= 253 && bare.split('.').all(label)
}

fn dns_name(name: &str, path: &str, places: &Places) -> Result<(), InputError> {
    match is_dns_name(name) {
        true => Ok(()),
        false => Err(
            InputError::at_value(places, path, format!("`{name}` is not a DNS name"))
                .with_hint("write for instance shop.example"),
        ),
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
