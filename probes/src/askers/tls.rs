//! TLS: bad if there is no handshake, if the certificate is not trusted, for another name, or expires
//! too soon. The first certificate is looked at, the server's own.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scenarios::asks::TlsHandshake;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::askers::{Asks, Call, Here};
use crate::dial::{self, Secure};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;

const DAY: u64 = 24 * 3600;

pub(crate) struct TlsAsker {
    address: SocketAddr,
    secure: Secure,
    valid_for: Duration,
}

impl Asks for TlsAsker {
    type Question = TlsHandshake;

    fn new(question: &TlsHandshake, here: &Here<'_>) -> Result<Self, ProbeError> {
        let address = here.address(&question.place)?;
        Ok(Self {
            address,
            secure: here.secure(&question.trust, address, "")?,
            valid_for: question.valid_for,
        })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        let stream = dial::tls(self.address, &self.secure, call.progress).await?;
        let (_, session) = stream.get_ref();
        let own = session.peer_certificates().and_then(<[_]>::first);
        let expires = own.and_then(expires);
        let expires =
            expires.ok_or_else(|| Outcome::Error("TLS: no certificate to read".to_owned()))?;
        // By this machine's clock, as every user of the server does.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = expires.saturating_sub(now);
        if left < self.valid_for {
            let why = format!(
                "TLS: the certificate expires in {}, less than {}",
                rough(left),
                rough(self.valid_for)
            );
            return Err(Outcome::Error(why));
        }
        Ok(())
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.address, progress.text())
    }
}

/// Since 1970.
fn expires(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..3600 => format!("{seconds} s"),
        3600..DAY => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}
