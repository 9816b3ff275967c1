//! Sockets that parts listen on: bound with patience, announced on standard output.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long an address may be missing: IPv6 duplicate address detection, or a link still coming up.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "cannot listen on {protocol} {address}: {source}; nothing is served, check that the address is assigned and free"
    )]
    Bind {
        protocol: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the listener on {address} failed: {source}")]
    Serve {
        address: SocketAddr,
        source: io::Error,
    },
}

/// Listens on TCP, retrying for 2 s while the address is not assigned or not free yet.
pub async fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    patiently("TCP", address, || TcpListener::bind(address)).await
}

/// The UDP twin of [`tcp`].
pub async fn udp(address: SocketAddr) -> Result<UdpSocket, ListenError> {
    patiently("UDP", address, || UdpSocket::bind(address)).await
}

async fn patiently<T, F: Future<Output = io::Result<T>>>(
    protocol: &'static str,
    address: SocketAddr,
    bind: impl Fn() -> F,
) -> Result<T, ListenError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind().await {
            Ok(socket) => return Ok(socket),
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            Err(source) => {
                return Err(ListenError::Bind {
                    protocol,
                    address,
                    source,
                });
            }
        }
    }
}

fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
    )
}

/// Prints `listening ADDRESS`, which tells whoever started the part that it is ready, and its port.
pub fn announce(address: SocketAddr) {
    // Nobody has to read it: a closed standard output is no reason to stop serving.
    let _ = writeln!(io::stdout().lock(), "listening {address}");
}

/// Listens on all addresses first, then announces them all.
pub async fn tcp_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        listeners.push(tcp(address).await?);
    }
    for (listener, &address) in listeners.iter().zip(addresses) {
        announce(listener.local_addr().unwrap_or(address));
    }
    Ok(listeners)
}

/// Serves one router on every address until a listener fails.
pub async fn serve(addresses: &[SocketAddr], router: Router) -> Result<(), ListenError> {
    let mut servers = JoinSet::new();
    for (listener, &address) in tcp_all(addresses).await?.into_iter().zip(addresses) {
        let router = router.clone();
        // Small answers must not wait for a delayed acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        servers.spawn(async move {
            axum::serve(listener, router)
                .await
                .map_err(|source| ListenError::Serve { address, source })
        });
    }
    while let Some(ended) = servers.join_next().await {
        if let Ok(result) = ended {
            result?;
        }
    }
    Ok(())
}
