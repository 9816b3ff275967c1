//! TCP: bad if no connection is made in time.

use std::net::SocketAddr;

use scenarios::asks::TcpConnect;

use crate::askers::{Asks, Call, Here};
use crate::dial;
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;

pub(crate) struct TcpAsker {
    address: SocketAddr,
}

impl Asks for TcpAsker {
    type Question = TcpConnect;

    fn new(question: &TcpConnect, here: &Here<'_>) -> Result<Self, ProbeError> {
        let address = here.address(&question.place)?;
        Ok(Self { address })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        dial::tcp(self.address, call.progress).await.map(drop)
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.address, progress.text())
    }
}
