//! An authority of certificates for one test, and servers that show them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{listener, on_a_thread};

pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Identity {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        let issuer = Issuer::new(params, key);
        Self { folder, issuer }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For these names, valid from yesterday to `days` from now.
    pub fn sign(&self, names: &[&str], days: i64) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let from = date_time_ymd(1970, 1, 1) + now - day * 30;
        params.not_before = from;
        params.not_after = from + day * u32::try_from(30 + days).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }
}

/// A server over TLS that answers every request with 200; returns its port.
pub fn serve(identity: &Identity) -> u16 {
    let chain = vec![CertificateDer::from(identity.certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listener();
    on_a_thread(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(acceptor.clone(), stream));
        }
    });
    port
}

async fn answer(acceptor: TlsAcceptor, stream: tokio::net::TcpStream) {
    use hyper::Response;
    use hyper::service::service_fn;
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(
        |request: hyper::Request<hyper::body::Incoming>| async move {
            // What was asked for comes back, so that a test sees which Host was sent.
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let body = http_body_util::Full::new(hyper::body::Bytes::from(host));
            Ok::<_, std::convert::Infallible>(Response::new(body))
        },
    );
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
}
