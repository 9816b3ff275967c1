//! HTTP and HTTPS: every other request over a new connection, the others over a kept one.

use scenarios::asks::Expectation;
use scenarios::fleet::HttpRequest;

use crate::askers::{Asks, Call, Here};
use crate::expect::{self, Values};
use crate::http::{Connections, Question, Reply};
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

    /// Of a request in which `values` and `{id}` are all that is open.
    pub fn with(
        question: &HttpRequest,
        values: &Values,
        here: &Here<'_>,
    ) -> Result<Self, ProbeError> {
        let http = request::filled(question, values);
        let url = http.url.clone();
        Self::of(http).map_err(|why| here.wrong(format!("cannot probe {url}: {why}")))
    }

    /// Whatever is answered, and what was wanted.
    pub async fn reply(&self, call: &Call<'_>) -> Result<(Reply, Expectation), Outcome> {
        let (question, expect) = question(&self.http, &id(call.id)).map_err(Outcome::Error)?;
        let asked = self.connections.ask(&question, call.fresh, call.progress);
        Ok((asked.await?, expect))
    }
}

impl Asks for HttpAsker {
    type Question = HttpRequest;

    fn new(question: &HttpRequest, here: &Here<'_>) -> Result<Self, ProbeError> {
        Self::with(question, &here.values(), here)
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        let (reply, expect) = self.reply(call).await?;
        expect::judge(&expect, &reply)
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
