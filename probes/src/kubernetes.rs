//! A cell's Kubernetes API: how it is reached, by its kubeconfig, and the questions asked of it.
//!
//! Nothing is ever written, neither to the cluster nor to the kubeconfig. Three questions:
//!
//! - `ready`: `/readyz`, what a load balancer in front of API servers asks.
//! - `list`: a list without a resource version, which has to be as fresh as etcd at that moment.
//! - `watch`: a new watch with its initial events (WatchList). With an empty resource version the
//!   API server first learns etcd's newest revision and tells the end of the initial events by a
//!   bookmark only when its own watch cache has come that far. So the bookmark proves, without a
//!   write, that controllers who watch now are told the present: freshness. An API server that is
//!   cut off from etcd, or whose cache lags, answers `list` and `watch` late or not at all.
//!
//! `ready` and `list` keep their connection. A watch does not end by itself and HTTP/1.1 cannot
//! cancel it, so every `watch` takes a new TLS connection and closes it: this is also the probe
//! that notices when no new connection can be made.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use scenarios::fleet::{KubernetesAccess, KubernetesQuestion};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::http::{Question, Secure, Until};
use crate::target::{Target, literal};

const HTTPS_PORT: u16 = 443;
/// One object of a resource that every cluster has and the role `view` may read.
const LIST: &str = "/api/v1/namespaces/default/services?limit=1";
/// The same one object, so that the answer does not grow with the cluster. The server ends the watch
/// by itself after the longest timeout of a probe, should our closing of it get lost.
const WATCH: &str = "/api/v1/namespaces/default/services?fieldSelector=metadata.name%3Dkubernetes\
                     &watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                     &allowWatchBookmarks=true&timeoutSeconds=10";
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Why a cell's API cannot be asked; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error(
        "cell {cell}: the kubeconfig {file} cannot be used: {why}; correct the file, or the fleet's kubernetes.kubeconfig"
    )]
    Unusable {
        cell: String,
        file: PathBuf,
        why: String,
    },
    #[error(
        "cell {cell}: the kubeconfig {file} has no context {context} (it has: {known}); correct kubernetes.context in the fleet file"
    )]
    NoContext {
        cell: String,
        file: PathBuf,
        context: String,
        known: String,
    },
    #[error(
        "cell {cell}: context {context} of {file} uses {what}, which cellwall does not; {instead}"
    )]
    NotSupported {
        cell: String,
        file: PathBuf,
        context: String,
        what: &'static str,
        instead: &'static str,
    },
    #[error(
        "cell {cell}: the server {server} of context {context} cannot be probed: {why}; write https://ADDRESS:PORT, and tls-server-name beside it if the certificate holds only a name"
    )]
    Server {
        cell: String,
        context: String,
        server: String,
        why: String,
    },
}

/// The access to one cell's API as its kubeconfig says, checked to be of a kind that probes can use.
///
/// # Errors
/// If the file cannot be read, has no such context, or wants a program to be run for its secrets.
pub fn kubernetes_config(cell: &str, access: &KubernetesAccess) -> Result<Config, KubeconfigError> {
    let file = &access.kubeconfig;
    let unusable = |why: String| KubeconfigError::Unusable {
        cell: cell.to_owned(),
        file: file.clone(),
        why,
    };
    let kubeconfig =
        Kubeconfig::read_from(file).map_err(|error| unusable(without_lines(&told(&error))))?;
    let names = || {
        kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.as_str())
    };
    if !names().any(|name| name == access.context) {
        return Err(KubeconfigError::NoContext {
            cell: cell.to_owned(),
            file: file.clone(),
            context: access.context.clone(),
            known: names().collect::<Vec<_>>().join(", "),
        });
    }
    let options = KubeConfigOptions {
        context: Some(access.context.clone()),
        ..KubeConfigOptions::default()
    };
    // It is async for the sake of other sources and never waits with a file that was read.
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .now_or_never()
        .ok_or_else(|| unusable("reading it would have to wait".to_owned()))?
        .map_err(|error| unusable(told(&error)))?;
    if let Some((what, instead)) = unsupported(&config.auth_info) {
        return Err(KubeconfigError::NotSupported {
            cell: cell.to_owned(),
            file: file.clone(),
            context: access.context.clone(),
            what,
            instead,
        });
    }
    // A proxy, of the environment or the file, would be asked instead of the cell.
    config.proxy_url = None;
    Ok(config)
}

/// What would run programs, ask others or go stale in the middle of a drill.
fn unsupported(user: &AuthInfo) -> Option<(&'static str, &'static str)> {
    let secret = "write a token or a client certificate that outlives the drill";
    let found = [
        (user.exec.is_some(), "an exec plugin"),
        (user.auth_provider.is_some(), "an auth provider"),
        (
            user.token_file.is_some() && user.token.is_none(),
            "a token file",
        ),
        (
            user.username.is_some() || user.password.is_some(),
            "a password",
        ),
        (
            user.impersonate.is_some() || user.impersonate_groups.is_some(),
            "impersonation",
        ),
    ];
    found
        .into_iter()
        .find(|(is, _)| *is)
        .map(|(_, what)| (what, secret))
}

/// An error with the ones below it, once each.
/// A reader of YAML shows the line that it stumbled over, and here that line may hold a token. Of such an
/// error only the place is told.
fn without_lines(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    let number_after = |word: &str| {
        let (_, rest) = text.split_once(word)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    };
    let line = number_after("line ").map_or_else(String::new, |line| format!(" at line {line}"));
    format!("it is no kubeconfig{line} (the line is not shown, it may hold a secret)")
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        below = error.source();
    }
    text
}

/// One cell's API server, ready to be asked.
pub(crate) struct ApiServer {
    address: SocketAddr,
    host: String,
    /// In front of every path.
    prefix: String,
    authorization: Option<HeaderValue>,
    pub secure: Secure,
}

impl ApiServer {
    pub fn of(cell: &str, access: &KubernetesAccess) -> Result<Self, KubeconfigError> {
        let config = kubernetes_config(cell, access)?;
        let wrong = |why: String| KubeconfigError::Server {
            cell: cell.to_owned(),
            context: access.context.clone(),
            server: config.cluster_url.to_string(),
            why,
        };
        let (address, host) = place(&config.cluster_url).map_err(&wrong)?;
        let name = match &config.tls_server_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|error| wrong(format!("tls-server-name {name}: {error}")))?,
            None => ServerName::from(address.ip()),
        };
        let unusable = |why: String| KubeconfigError::Unusable {
            cell: cell.to_owned(),
            file: access.kubeconfig.clone(),
            why,
        };
        let tls = config
            .rustls_client_config()
            .map_err(|error| unusable(told(&error)))?;
        let token = config.auth_info.token.as_ref().map(|token| {
            let bearer = format!("Bearer {}", token.expose_secret().trim());
            let mut value = HeaderValue::from_str(&bearer)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization = token
            .transpose()
            .map_err(|_: hyper::header::InvalidHeaderValue| {
                unusable("its token holds a line break or the like".to_owned())
            })?;
        Ok(Self {
            address,
            host,
            prefix: config.cluster_url.path().trim_end_matches('/').to_owned(),
            authorization,
            secure: Secure {
                tls: TlsConnector::from(Arc::new(tls)),
                name,
            },
        })
    }

    pub fn question(&self, what: KubernetesQuestion) -> Question {
        let (path, until): (_, Option<Until>) = match what {
            KubernetesQuestion::Ready => ("/readyz", None),
            KubernetesQuestion::List => (LIST, None),
            KubernetesQuestion::Watch => (WATCH, Some(initial_events_end)),
        };
        Question {
            target: Target {
                address: self.address,
                host: self.host.clone(),
                path: format!("{}{path}", self.prefix),
            },
            method: Method::GET,
            body: Bytes::new(),
            authorization: self.authorization.clone(),
            load: None,
            until,
        }
    }
}

fn place(url: &Uri) -> Result<(SocketAddr, String), String> {
    if url.scheme_str() != Some("https") {
        return Err("it does not begin with https://".to_owned());
    }
    let host = url.host().unwrap_or_default();
    let address: IpAddr = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| format!("host `{host}` is no IP address, and probes resolve no names"))?;
    let port = url.port_u16().unwrap_or(HTTPS_PORT);
    Ok((
        SocketAddr::new(address, port),
        format!("{}:{port}", literal(address)),
    ))
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
pub(crate) fn is_list(body: &[u8]) -> bool {
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

    fn read(user: &str, server: &str) -> Result<ApiServer, KubeconfigError> {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{server}', \
             insecure-skip-tls-verify: true}}}}]\nusers: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let context = "here".to_owned();
        ApiServer::of(
            "a",
            &KubernetesAccess {
                kubeconfig,
                context,
            },
        )
    }

    #[test]
    fn what_a_probe_cannot_use_is_refused_in_words() {
        let refused = |user, server| read(user, server).err().unwrap().to_string();
        let good = "https://10.1.0.1:6443";
        assert!(refused("{exec: {command: aws, apiVersion: x}}", good).contains("an exec plugin"));
        assert!(refused("{auth-provider: {name: gcp}}", good).contains("an auth provider"));
        assert!(refused("{tokenFile: /t}", good).contains("a token file"));
        assert!(refused("{username: a, password: b}", good).contains("a password"));
        assert!(refused("{token: t}", "http://10.1.0.1:8080").contains("https://"));
        assert!(refused("{token: t}", "https://api.example:6443").contains("resolve no names"));
        assert!(
            refused(
                "{client-certificate-data: eA==, client-key-data: eA==}",
                good
            )
            .contains("cannot be used")
        );
    }

    /// Found by review: the line with the token was shown.
    #[test]
    fn a_broken_file_is_refused_without_its_secrets() {
        for broken in ["{token: s3cr3t", "{token: [s3cr3t]}", "[token: s3cr3t"] {
            let refused = read(broken, "https://10.1.0.1:6443").err().unwrap();
            let text = refused.to_string();
            assert!(text.contains("cannot be used"), "{text}");
            assert!(!text.contains("s3cr3t"), "{text}");
        }
    }

    #[test]
    fn a_token_and_both_families_are_understood() {
        for (server, host) in [
            ("https://10.1.0.1:6443", "10.1.0.1:6443"),
            ("https://[fd00::1]/k8s/c", "[fd00::1]:443"),
        ] {
            let api = read("{token: secret}", server).unwrap();
            let question = api.question(KubernetesQuestion::Ready);
            assert_eq!(question.target.host, host);
            assert!(question.target.path.ends_with("/readyz"));
            assert_eq!(question.authorization.unwrap(), "Bearer secret");
        }
    }

    #[test]
    fn a_missing_context_or_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let access = KubernetesAccess {
            kubeconfig: kubeconfig.clone(),
            context: "there".to_owned(),
        };
        let refused = || kubernetes_config("a", &access).err().unwrap().to_string();
        assert!(refused().contains("cannot be used"), "{}", refused());
        std::fs::write(
            &kubeconfig,
            "contexts: [{name: here, context: {cluster: c}}]\n",
        )
        .unwrap();
        assert!(
            refused().contains("no context there (it has: here)"),
            "{}",
            refused()
        );
    }
}
