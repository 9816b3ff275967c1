//! Whom probes trust over TLS: a file of authorities, or those of this machine.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use scenarios::asks::Trust;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::dial::Secure;

/// How a server is spoken to by what a fleet file says; `alpn` is what is spoken over TLS.
///
/// Sessions are never resumed: every handshake shows the certificate, and it is checked.
///
/// # Errors
/// In words: a file that cannot be read or holds no certificate, a machine without authorities.
pub fn secure(trust: &Trust, address: IpAddr, alpn: &str) -> Result<Secure, String> {
    let roots = match &trust.ca {
        Some(file) => {
            let shown = file.display();
            let certificates = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("the authorities in {shown} cannot be read: {error}"))?;
            store(certificates).ok_or_else(|| format!("{shown} holds no certificate"))?
        }
        None => of_this_machine()
            .clone()
            .ok_or("this machine trusts no authority; name one with ca: FILE")?,
    };
    let name = match &trust.name {
        Some(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|error| format!("`{name}` is no name of a server: {error}"))?,
        None => ServerName::from(address),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match alpn {
        "" => Vec::new(),
        alpn => vec![alpn.as_bytes().to_vec()],
    };
    let tls = TlsConnector::from(Arc::new(config));
    Ok(Secure { tls, name })
}

/// `None` if none of them is an authority.
fn store(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(certificates);
    (taken > 0).then(|| Arc::new(roots))
}

/// Read once: there may be hundreds, and a stream for each cell and probe.
fn of_this_machine() -> &'static Option<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Option<Arc<RootCertStore>>> = OnceLock::new();
    ROOTS.get_or_init(|| store(rustls_native_certs::load_native_certs().certs))
}
