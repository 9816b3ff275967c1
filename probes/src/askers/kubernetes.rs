//! The Kubernetes API of a cell. Nothing is ever stored in the cluster. Five questions:
//!
//! - `ready`: `/readyz`, what a load balancer in front of API servers asks.
//! - `list`: a list without a resource version, which has to be as fresh as etcd at that moment.
//! - `watch`: a new watch with its initial events (WatchList). With an empty resource version the
//!   API server first learns etcd's newest revision and tells the end of the initial events by a
//!   bookmark only when its own watch cache has come that far. So the bookmark proves, without a
//!   write, that controllers who watch now are told the present: freshness. An API server that is
//!   cut off from etcd, or whose cache lags, answers `list` and `watch` late or not at all.
//! - `write`: one ConfigMap is applied with `dryRun=All`: authentication, authorization, admission and
//!   a read of what etcd has, everything but the storing. As an apply it names the object in its URL, so
//!   the right to it can be given for this one name. An etcd that can be read and not written is seen
//!   by `lease`, not by this.
//! - `lease`: somebody in the cluster renews a Lease, so the age of the last renewal tells that writes
//!   are stored. The time is the API server's own (`Date`), which is cut to whole seconds: an age is
//!   told up to a second too small, and the prober's clock plays no part.
//!
//! All but `watch` keep their connection. A watch does not end by itself and HTTP/1.1 cannot
//! cancel it, so every `watch` takes a new TLS connection and closes it: this is also the probe
//! that notices when no new connection can be made.

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822::DateTimeParser;
use scenarios::fleet::KubernetesQuestion;
use serde_json::{Value, json};
use std::time::Duration;

use crate::askers::{Asks, Call, Here};
use crate::expect::quoted;
use crate::http::{Connections, Question, Reply};
use crate::kinds::ProbeError;
use crate::kubernetes::ApiServer;
use crate::outcome::Outcome;
use crate::progress::Progress;

/// One object of a resource that every cluster has and the role `view` may read.
const LIST: &str = "/api/v1/namespaces/default/services?limit=1";
/// The same one object, so that the answer does not grow with the cluster. The server ends the watch
/// by itself after the longest timeout of a probe, should our closing of it get lost.
const WATCH: &str = "/api/v1/namespaces/default/services?fieldSelector=metadata.name%3Dkubernetes\
                     &watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                     &allowWatchBookmarks=true&timeoutSeconds=10";
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A server-side apply; JSON is YAML too.
const APPLY: &str = "application/apply-patch+yaml";

pub(crate) struct KubernetesAsker {
    question: Question,
    wanted: Wanted,
    connections: Connections,
}

/// What the answer must be.
enum Wanted {
    Ok,
    List,
    /// The ConfigMap as it would be stored.
    Written(String),
    RenewedWithin(Duration),
}

impl Asks for KubernetesAsker {
    type Question = KubernetesQuestion;

    fn new(what: &KubernetesQuestion, here: &Here<'_>) -> Result<Self, ProbeError> {
        let Some(access) = &here.cell.kubernetes else {
            let name = here.stream.to_owned();
            return Err(ProbeError::NoKubernetes { name });
        };
        let api = ApiServer::of(here.cell_name, access)?;
        let get = |path: &str| api.question(Method::GET, path);
        let (question, wanted) = match what {
            KubernetesQuestion::Ready => (get("/readyz"), Wanted::Ok),
            KubernetesQuestion::List => (get(LIST), Wanted::List),
            KubernetesQuestion::Watch => {
                let until = Some(initial_events_end as fn(&[u8]) -> Option<bool>);
                (
                    Question {
                        until,
                        ..get(WATCH)
                    },
                    Wanted::Ok,
                )
            }
            KubernetesQuestion::Write {
                namespace,
                config_map,
            } => {
                let question = apply(&api, namespace, config_map);
                (question, Wanted::Written(config_map.clone()))
            }
            KubernetesQuestion::Lease {
                namespace,
                name,
                within,
            } => {
                let path =
                    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
                (get(&path), Wanted::RenewedWithin(*within))
            }
        };
        let connections = Connections::over_tls(api.secure);
        Ok(Self {
            question,
            wanted,
            connections,
        })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        // A TLS handshake costs the server more than the question.
        let reply = self
            .connections
            .ask(&self.question, false, call.progress)
            .await?;
        self.wanted.judge(&reply).map_err(|why| {
            let told = format!("status {}{why}: {}", reply.status, quoted(&reply.body));
            Outcome::of_status(reply.status, told)
        })
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.question.target.address, progress.text())
    }
}

/// The ConfigMap is tried, and never stored: `dryRun=All` is of the URL, which is made here alone.
fn apply(api: &ApiServer, namespace: &str, name: &str) -> Question {
    let path = format!(
        "/api/v1/namespaces/{namespace}/configmaps/{name}\
         ?dryRun=All&fieldManager=cellwall&force=true"
    );
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace },
    });
    let mut question = api.question(Method::PATCH, &path);
    question
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(APPLY));
    question.body = Bytes::from(object.to_string());
    question
}

impl Wanted {
    /// What is wrong with an answer, to stand behind its status.
    fn judge(&self, reply: &Reply) -> Result<(), String> {
        let good = match self {
            Self::Written(_) => matches!(reply.status, 200 | 201),
            _ => reply.status == 200,
        };
        if !good {
            return Err(String::new());
        }
        match self {
            Self::Ok => Ok(()),
            Self::List if is_list(&reply.body) => Ok(()),
            Self::List => Err(", no list".to_owned()),
            Self::Written(name) => {
                let object: Option<Value> = serde_json::from_slice(&reply.body).ok();
                let found = object
                    .as_ref()
                    .and_then(|object| object.pointer("/metadata/name"));
                match found.and_then(Value::as_str) == Some(name) {
                    true => Ok(()),
                    false => Err(format!(", no ConfigMap {name}")),
                }
            }
            Self::RenewedWithin(within) => renewed(reply, *within),
        }
    }
}

/// A renewal that lies further ahead than it may lie back is none: the clocks of the cluster differ.
fn renewed(reply: &Reply, within: Duration) -> Result<(), String> {
    let lease: Lease = serde_json::from_slice(&reply.body).map_err(|_| ", no Lease".to_owned())?;
    let time = lease.spec.and_then(|spec| spec.renew_time);
    let time = time.ok_or(", a Lease that was never renewed")?.0;
    let date = reply.headers.get(DATE).and_then(|date| date.to_str().ok());
    let now: Option<Timestamp> =
        date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
    let now = now.ok_or(", no Date to compare the renewal with")?;
    let age = now.duration_since(time);
    let far = age.unsigned_abs() > within;
    let seconds = age.as_secs_f64().abs();
    match (far, age.is_negative()) {
        (false, _) => Ok(()),
        (true, false) => Err(format!(
            ", renewed {seconds:.1} s ago, which is more than {} s",
            within.as_secs_f64()
        )),
        (true, true) => Err(format!(
            ", renewed {seconds:.1} s ahead of the API server's time"
        )),
    }
}

/// Whether a line of a watch is the bookmark that ends the initial events (`Some(true)`), an event
/// on the way to it (`None`), or tells that the watch is over (`Some(false)`).
fn initial_events_end(line: &[u8]) -> Option<bool> {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return Some(false);
    };
    match event.get("type").and_then(Value::as_str) {
        Some("BOOKMARK") => {
            let ended = event
                .pointer("/object/metadata/annotations")
                .and_then(|a| a.get(INITIAL_EVENTS_END));
            (ended.and_then(Value::as_str) == Some("true")).then_some(true)
        }
        Some("ADDED" | "MODIFIED" | "DELETED") => None,
        _ => Some(false),
    }
}

/// Whether a body is a list of Kubernetes objects.
fn is_list(body: &[u8]) -> bool {
    let list: Option<Value> = serde_json::from_slice(body).ok();
    list.is_some_and(|list| {
        let kind = list.get("kind").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.ends_with("List"))
            && list.get("items").is_some_and(Value::is_array)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;

    #[test]
    fn only_the_bookmark_behind_the_initial_events_is_an_answer() {
        let added = br#"{"type":"ADDED","object":{"kind":"Service"}}"#;
        assert_eq!(initial_events_end(added), None);
        let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#;
        assert_eq!(initial_events_end(bookmark), None);
        let end = br#"{"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert_eq!(initial_events_end(end), Some(true));
        let error = br#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#;
        assert_eq!(initial_events_end(error), Some(false));
        assert_eq!(initial_events_end(b"upstream unavailable"), Some(false));
    }

    #[test]
    fn a_list_is_told_from_anything_else_with_status_200() {
        assert!(is_list(br#"{"kind":"ServiceList","items":[]}"#));
        assert!(!is_list(br#"{"kind":"Status","items":[]}"#));
        assert!(!is_list(br#"{"kind":"ServiceList"}"#));
        assert!(!is_list(b"<html>"));
    }

    #[test]
    fn a_lease_is_as_old_as_the_servers_own_clock_says() {
        let told = |renewed: &str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            let body = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": "l" }, "spec": { "renewTime": renewed } });
            let body = body.to_string().replace("\"renewTime\":\"\"", "").into();
            let reply = Reply {
                status: 200,
                headers,
                body,
            };
            Wanted::RenewedWithin(Duration::from_secs(15)).judge(&reply)
        };
        let now = Some("Sat, 28 Nov 2026 02:10:25 GMT");
        assert_eq!(told("2026-11-28T02:10:10.500000Z", now), Ok(()));
        // Ahead by what the whole seconds of a Date hide.
        assert_eq!(told("2026-11-28T02:10:25.900000Z", now), Ok(()));
        let old = told("2026-11-28T02:10:09.500000Z", now).unwrap_err();
        assert_eq!(old, ", renewed 15.5 s ago, which is more than 15 s");
        assert!(
            told("2026-11-28T02:11:25.000000Z", now)
                .unwrap_err()
                .contains("ahead")
        );
        assert!(told("", now).unwrap_err().contains("never renewed"));
        let renewed = "2026-11-28T02:10:10.000000Z";
        assert!(told(renewed, None).unwrap_err().contains("no Date"));
        assert!(told(renewed, Some("soon")).unwrap_err().contains("no Date"));
    }
}
