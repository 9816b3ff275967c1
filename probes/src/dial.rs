//! A new connection: TCP, and TLS over it if the server is spoken to in secret.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::outcome::Outcome;
use crate::progress::{Progress, Step};

/// How a server over TLS is spoken to.
#[derive(Clone)]
pub struct Secure {
    pub tls: TlsConnector,
    /// What its certificate must be for.
    pub name: ServerName<'static>,
}

/// A connection of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub async fn tcp(address: SocketAddr, progress: &Progress) -> Result<TcpStream, Outcome> {
    progress.reach(Step::Connecting);
    let connected = TcpStream::connect(address).await;
    let connected = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    connected.map_err(|error| Outcome::of_io("connect", &error))
}

pub async fn tls(
    address: SocketAddr,
    secure: &Secure,
    progress: &Progress,
) -> Result<TlsStream<TcpStream>, Outcome> {
    let stream = tcp(address, progress).await?;
    progress.reach(Step::ShakingHands);
    let shaken = secure.tls.connect(secure.name.clone(), stream).await;
    shaken.map_err(|error| Outcome::of_io("TLS", &error))
}

pub async fn either(
    address: SocketAddr,
    secure: Option<&Secure>,
    progress: &Progress,
) -> Result<Box<dyn Stream>, Outcome> {
    Ok(match secure {
        None => Box::new(tcp(address, progress).await?),
        Some(secure) => Box::new(tls(address, secure, progress).await?),
    })
}
