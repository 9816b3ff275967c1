//! ICMP echo by raw sockets: requests with ids of our choice, and the answers to them.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, recvfrom, sendto, setsockopt, socket, sockopt,
};

pub const REQUEST_4: u8 = 8;
pub const REPLY_4: u8 = 0;
pub const REQUEST_6: u8 = 128;
pub const REPLY_6: u8 = 129;
/// Raw sockets get every ICMP packet of the namespace; ours must not be crowded out.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Whom to ask; the device matters for link-local addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub address: IpAddr,
    pub device: u32,
}

/// One answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub from: IpAddr,
    pub id: u16,
    pub sequence: u16,
}

/// A raw ICMP or ICMPv6 socket of the namespace in which it was opened.
pub struct Echo {
    fd: OwnedFd,
    v6: bool,
}

impl Echo {
    pub fn open(v6: bool) -> io::Result<Self> {
        let (family, protocol) = if v6 {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        } else {
            (AddressFamily::Inet, SockProtocol::Icmp)
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Raw, flags, protocol)?;
        setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(Self { fd, v6 })
    }

    /// Sends one request. That it could be sent says nothing of its fate.
    pub fn send(&self, peer: Peer, id: u16, sequence: u16) -> io::Result<()> {
        let mut packet = [0_u8; 16];
        packet[0] = if self.v6 { REQUEST_6 } else { REQUEST_4 };
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        packet[8..].copy_from_slice(b"cellwall");
        let fd = self.fd.as_raw_fd();
        let none = MsgFlags::empty();
        let sent = match peer.address {
            IpAddr::V4(address) => {
                let sum = checksum(&packet);
                packet[2..4].copy_from_slice(&sum.to_be_bytes());
                let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
                sendto(fd, &packet, &to, none)
            }
            IpAddr::V6(address) => {
                let scope = if address.is_unicast_link_local() {
                    peer.device
                } else {
                    0
                };
                // The kernel fills in the checksum of ICMPv6.
                let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, scope));
                sendto(fd, &packet, &to, none)
            }
        };
        sent.map(drop).map_err(io::Error::from)
    }

    /// Every reply that has come in since the last call.
    pub fn replies(&self) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        let mut buffer = [0_u8; 256];
        loop {
            match recvfrom::<SockaddrStorage>(self.fd.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let from = from.as_ref().and_then(address);
                    let reply = self.parse(buffer.get(..length).unwrap_or(&buffer));
                    if let (Some(from), Some((id, sequence))) = (from, reply) {
                        replies.push(Reply { from, id, sequence });
                    }
                }
                Err(Errno::EAGAIN) => return Ok(replies),
                // An ICMP error for something we sent: not an answer, and no fault of the socket.
                Err(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ECONNREFUSED) => {}
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn parse(&self, packet: &[u8]) -> Option<(u16, u16)> {
        let (icmp, reply) = if self.v6 {
            (packet, REPLY_6)
        } else {
            // IPv4 raw sockets see the IP header too.
            let header = usize::from(packet.first()? & 0xf) * 4;
            (packet.get(header..)?, REPLY_4)
        };
        let number = |at: usize| Some(u16::from_be_bytes([*icmp.get(at)?, *icmp.get(at + 1)?]));
        (*icmp.first()? == reply).then_some((number(4)?, number(6)?))
    }
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from
        .as_sockaddr_in()
        .map(|v4| SocketAddr::from(SocketAddrV4::from(*v4)));
    let v6 = from
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::from(SocketAddrV6::from(*v6)));
    v4.or(v6).map(|address| address.ip())
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|word| {
            u32::from(u16::from_be_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_to_nothing() {
        let mut packet = *b"\x08\x00\x00\x00\x12\x34\x00\x07cellwall";
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }
}
