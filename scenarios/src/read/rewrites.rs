//! Checks of what is done to a probe's acknowledged writes, and of an entrypoint's kinds of client.

use crate::effects::{ClientKind, ClientMix};
use crate::fleet::{HttpMethod, HttpRequest, Probe};
use crate::input::InputError;
use crate::places::Places;
use crate::read::requests;

/// Percentages that a person writes may miss 100% by this much.
const SLACK: f64 = 1e-6;

/// `update` and `delete` of a probe; its own request and `readBack` are checked already.
pub(super) fn check(probe: &Probe, path: &str, places: &Places) -> Result<(), InputError> {
    let rewrites = [
        ("update", &probe.rewrites.update),
        ("delete", &probe.rewrites.delete),
    ];
    for (word, http) in rewrites {
        let Some(http) = http else { continue };
        let at = format!("{path}.{word}");
        if probe.read_back.is_none() {
            let message =
                format!("{word} is for writes that are read back, and readBack is missing");
            return Err(InputError::at_key(places, &at, message)
                .with_hint("write readBack: URL beside it, with {id}"));
        }
        if http.method == HttpMethod::Get {
            let message = "a GET changes nothing";
            let path = format!("{at}.method");
            return Err(
                InputError::at_value(places, &path, message).with_valid(["POST", "PUT", "DELETE"])
            );
        }
        needs(http, "{id}", "which write is meant?", &at, places)?;
        if word == "update" {
            needs(
                http,
                "{version}",
                "what is the write to become?",
                &at,
                places,
            )?;
        }
        let filled = HttpRequest {
            url: http.url.replace(
                "{version}",
                if word == "update" { "2" } else { "{version}" },
            ),
            ..http.clone()
        };
        requests::request(&filled, "cell", &at, places)?;
    }
    Ok(())
}

fn needs(
    http: &HttpRequest,
    placeholder: &str,
    question: &str,
    at: &str,
    places: &Places,
) -> Result<(), InputError> {
    let body = http.body.as_deref().unwrap_or_default();
    if http.url.contains(placeholder) || body.contains(placeholder) {
        return Ok(());
    }
    let message = format!("neither url nor body holds {placeholder}: {question}");
    Err(InputError::at_value(places, &format!("{at}.url"), message))
}

/// The kinds are all users: no more, no fewer.
pub(super) fn clients(mix: &ClientMix, path: &str, places: &Places) -> Result<(), InputError> {
    let sum: f64 = ClientKind::ALL.iter().map(|kind| mix.of(*kind)).sum();
    if (sum - 1.0).abs() <= SLACK {
        return Ok(());
    }
    let message = format!(
        "the kinds of client add up to {}%, not 100%",
        (sum * 1e4).round() / 1e2
    );
    Err(InputError::at_key(
        places,
        &format!("{path}.clients"),
        message,
    ))
}
