//! How each kind of question is asked: one file below and one line here for each kind.

use std::net::SocketAddr;

use scenarios::asks::{Ask, Place, Trust, cell_values};
use scenarios::fleet::Cell;
use tokio::time::Instant;

use crate::dial::Secure;
use crate::expect::Values;
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::trust;

/// One probe that is due.
pub(crate) struct Call<'a> {
    /// Over a new connection, where the kind has a choice.
    pub fresh: bool,
    /// Unique in the drill.
    pub id: &'a str,
    /// The call is given up then.
    pub deadline: Instant,
    pub progress: &'a Progress,
}

/// Of what and for what stream an asker is made.
pub(crate) struct Here<'a> {
    pub stream: &'a str,
    pub cell_name: &'a str,
    pub cell: &'a Cell,
}

impl Here<'_> {
    /// What stands for the cell in every text.
    pub fn values(&self) -> Values {
        cell_values(self.cell_name, self.cell)
    }

    pub fn wrong(&self, why: impl Into<String>) -> ProbeError {
        ProbeError::Question {
            stream: self.stream.to_owned(),
            why: why.into(),
        }
    }

    pub fn address(&self, place: &Place) -> Result<SocketAddr, ProbeError> {
        let address = place.of(self.cell);
        address.ok_or_else(|| self.wrong(format!("the cell has nothing for {place}")))
    }

    pub fn secure(
        &self,
        trust: &Trust,
        address: SocketAddr,
        alpn: &str,
    ) -> Result<Secure, ProbeError> {
        trust::secure(trust, address.ip(), alpn).map_err(|why| self.wrong(why))
    }
}

/// What asks one kind of question of one cell.
pub(crate) trait Asks: Sized {
    type Question;

    /// # Errors
    /// What cannot be asked, before anything is sent.
    fn new(question: &Self::Question, here: &Here<'_>) -> Result<Self, ProbeError>;

    /// Asks once; whoever calls ends it at the deadline. An `Err` is never [`Outcome::Answered`].
    fn ask(&self, call: &Call<'_>) -> impl Future<Output = Result<(), Outcome>> + Send;

    /// Whom, and where a call stands, for one that has taken too long.
    fn stage(&self, progress: &Progress) -> String;
}

macro_rules! askers {
    ($($variant:ident($module:ident::$asker:ident),)*) => {
        $(pub(crate) mod $module;)*

        /// One kind of question to one cell, ready to be asked.
        pub(crate) enum Asker {
            $($variant($module::$asker),)*
        }

        impl Asker {
            pub fn new(ask: &Ask, here: &Here<'_>) -> Result<Self, ProbeError> {
                match ask {
                    $(Ask::$variant(question) => $module::$asker::new(question, here).map(Self::$variant),)*
                }
            }

            pub async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
                match self { $(Self::$variant(asker) => asker.ask(call).await,)* }
            }

            pub fn stage(&self, progress: &Progress) -> String {
                match self { $(Self::$variant(asker) => asker.stage(progress),)* }
            }
        }
    };
}

askers! {
    Http(http::HttpAsker),
    Tcp(tcp::TcpAsker),
    Tls(tls::TlsAsker),
    Dns(dns::DnsAsker),
    Grpc(grpc::GrpcAsker),
    Kubernetes(kubernetes::KubernetesAsker),
    Prometheus(prometheus::PrometheusAsker),
    Journey(journey::JourneyAsker),
}
