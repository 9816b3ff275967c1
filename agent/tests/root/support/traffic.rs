//! Real traffic by ordinary sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Namespace;

pub const ECHO: u16 = 7;
const PATIENCE: Duration = Duration::from_millis(400);

/// What a sender sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Answered,
    /// Nothing came back and nobody said why.
    Silent,
    /// The kernel told the sender.
    Error(ErrorKind),
}

/// TCP and UDP echo on a port, v4 and v6, until the test's process ends.
pub struct Echo;

impl Echo {
    pub fn start(namespace: &Namespace, port: u16) {
        namespace.run(move || {
            let udp = UdpSocket::bind(("::", port)).unwrap();
            let tcp = TcpListener::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 1500];
                while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(&buffer[..length], from);
                }
            });
            std::thread::spawn(move || {
                for stream in tcp.incoming().flatten() {
                    std::thread::spawn(move || echo(stream));
                }
            });
        });
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1500];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn reach<T>(result: std::io::Result<T>) -> Reach {
    match result {
        Ok(_) => Reach::Answered,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Reach::Silent
        }
        Err(error) => Reach::Error(error.kind()),
    }
}

/// One TCP connection to the echo port and a word there and back.
pub fn tcp(from: &Namespace, to: &str) -> Reach {
    tcp_from(from, to, ECHO)
}

pub fn tcp_from(from: &Namespace, to: &str, port: u16) -> Reach {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    from.run(move || {
        reach((|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"word")?;
            stream.read_exact(&mut [0; 4])
        })())
    })
}

/// Three UDP words; the kernel is asked for every error it knows of (IP_RECVERR).
pub fn udp(from: &Namespace, to: &str) -> Reach {
    UdpPath::open(from, to, ECHO).ask(PATIENCE)
}

/// Whether an ICMPv6 echo request (type 128) is answered.
pub fn ping6(from: &Namespace, to: &str) -> bool {
    let to = SockaddrIn6::from(std::net::SocketAddrV6::new(to.parse().unwrap(), 0, 0, 0));
    from.run(move || {
        let raw = SockType::Raw;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet6, raw, flags, SockProtocol::IcmpV6).unwrap();
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::milliseconds(400),
        )
        .unwrap();
        let request = [128, 0, 0, 0, 0, 1, 0, 1]; // the kernel fills in the checksum
        sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty()).unwrap();
        let mut answer = [0; 100];
        loop {
            match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Ok(_) if answer[0] == 129 => return true,
                Ok(_) => {} // neighbour discovery
                Err(_) => return false,
            }
        }
    })
}

/// A connected UDP socket in a namespace.
pub struct UdpPath(UdpSocket);

impl UdpPath {
    pub fn open(from: &Namespace, to: &str, port: u16) -> Self {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        from.run(move || {
            let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).unwrap();
            if to.is_ipv6() {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
            } else {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
            }
            socket.connect(to).unwrap();
            Self(socket)
        })
    }

    pub fn ask(&self, patience: Duration) -> Reach {
        self.0.set_read_timeout(Some(patience / 3)).unwrap();
        while self.0.set_nonblocking(true).is_ok() && self.0.recv(&mut [0; 100]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
        for _ in 0..3 {
            let asked = reach(
                self.0
                    .send(b"word")
                    .and_then(|_| self.0.recv(&mut [0; 100])),
            );
            if asked != Reach::Silent {
                return asked;
            }
        }
        Reach::Silent
    }
}
