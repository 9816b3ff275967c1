//! HTTP and HTTPS: every other request over a new connection, the others over a kept one.

use scenarios::asks::Expectation;
use scenarios::fleet::HttpRequest;

use crate::askers::{Asks, Call, Here};
use crate::expect::{self, Values};
use crate::http::{Connections, Question};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::request;
use crate::target::Target;

pub(crate) struct HttpAsker {
    http: HttpRequest,
    /// For the text of a timeout.
    whom: String,
    connections: Connections,
}

impl HttpAsker {
    /// Of a request in which nothing but `{id}` is open.
    pub fn of(http: HttpRequest) -> Result<Self, String> {
        let (question, _) = question(&http, &id("check"))?;
        let address = question.target.address;
        let secure = match question.target.secret {
            true => Some(crate::trust::secure(&http.trust, address.ip(), "http/1.1")?),
            false => None,
        };
        Ok(Self {
            http,
            whom: address.to_string(),
            connections: Connections::new(secure),
        })
    }
}

impl Asks for HttpAsker {
    type Question = HttpRequest;

    fn new(question: &HttpRequest, here: &Here<'_>) -> Result<Self, ProbeError> {
        let http = request::filled(question, &here.values());
        let url = http.url.clone();
        Self::of(http).map_err(|why| here.wrong(format!("cannot probe {url}: {why}")))
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        let (question, expect) = question(&self.http, &id(call.id)).map_err(Outcome::Error)?;
        let asked = self.connections.ask(&question, call.fresh, call.progress);
        expect::judge(&expect, &asked.await?)
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.whom, progress.text())
    }
}

fn id(id: &str) -> Values {
    vec![("id".to_owned(), id.to_owned())]
}

fn question(http: &HttpRequest, values: &Values) -> Result<(Question, Expectation), String> {
    let name = http.trust.name.as_deref();
    request::question(http, values, |url| Target::parse_named(url, name))
}
