//! The control that never leaves this process: an echo on 127.0.0.1, on the probes' own runtime.
//!
//! It takes part in everything that a probe needs of this machine: timers, the executor, sockets,
//! descriptors. If it is late or fails, so may every other probe be.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const LENGTH: usize = 8;
/// First byte of a message: the server closes after the echo, or waits for the next one.
const LAST: u8 = 0;
const MORE: u8 = 1;
const IDLE: usize = 8;

pub struct Loopback {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
    server: JoinHandle<()>,
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Loopback {
    /// Must be called on the runtime of the probes.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(serve(listener));
        Ok(Self {
            address,
            idle: Mutex::default(),
            server,
        })
    }

    /// One echo, over a new connection or a kept one.
    pub async fn ask(&self, fresh: bool) -> io::Result<()> {
        let kept = if fresh {
            None
        } else {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let message = [if fresh { LAST } else { MORE }; LENGTH];
        stream.write_all(&message).await?;
        let mut echo = [0xff; LENGTH];
        stream.read_exact(&mut echo).await?;
        if echo != message {
            return Err(io::Error::other("the echo is not what was sent"));
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !fresh && idle.len() < IDLE {
            idle.push(stream);
        }
        Ok(())
    }
}

async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            // Out of descriptors: those who connect will see it, and that is what they are for.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; LENGTH];
    loop {
        stream.read_exact(&mut message).await?;
        stream.write_all(&message).await?;
        if message[0] == LAST {
            return Ok(());
        }
    }
}
