//! One scrape: an HTTP GET of a text exposition, or of a query of Prometheus.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use scenarios::selector::Selector;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::exposition::{self, Series};
use crate::target::Target;

/// Bytes of an answer that are read; more is an error.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Where the series of one cell are read.
pub enum Source {
    Endpoint(Target),
    Prometheus {
        server: Target,
        /// How far back the newest sample may be; older ones are stale.
        reach: Duration,
    },
}

impl Source {
    /// The newest series that each selector means, or why there are none.
    pub async fn read(
        &self,
        selectors: &[Selector],
        deadline: Instant,
    ) -> Result<Vec<Vec<Series>>, String> {
        match timeout_at(deadline, self.ask(selectors)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn ask(&self, selectors: &[Selector]) -> Result<Vec<Vec<Series>>, String> {
        match self {
            Source::Endpoint(target) => {
                let body = get(target.address, &target.host, &target.path).await?;
                let text = String::from_utf8_lossy(&body);
                let read = selectors.iter();
                Ok(read.map(|s| exposition::of_text(&text, s)).collect())
            }
            Source::Prometheus { server, reach } => {
                let asked = selectors.iter().map(|selector| async move {
                    // A range selector tells the samples themselves with their times; an instant one
                    // would repeat a stale sample for minutes as if it were new.
                    let query = format!("{selector}[{}ms]", reach.as_millis());
                    let path = format!("/api/v1/query?query={}", encoded(&query));
                    let body = get(server.address, &server.host, &path).await?;
                    exposition::of_prometheus(&body)
                });
                futures::future::join_all(asked).await.into_iter().collect()
            }
        }
    }
}

/// Everything but letters and digits as `%XX` (RFC 3986).
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Over a fresh connection, so that a scrape never waits for one that an outage has left silent.
async fn get(address: SocketAddr, host: &str, path: &str) -> Result<Bytes, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("connect to {address}: {error}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    let request = hyper::Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("request: {error}"))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| format!("{address}: {error}"))?
            .to_bytes();
        match status.as_u16() {
            200 => Ok(body),
            // Prometheus says in the body what it did not like.
            400 | 422 => Ok(body),
            status => Err(format!("{address} answered {status}")),
        }
    };
    let answer = answer.await;
    driver.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_survive_a_url() {
        assert_eq!(encoded("a{b=\"/c\"}[5s]"), "a%7Bb%3D%22%2Fc%22%7D%5B5s%5D");
    }
}
