//! A netfilter netlink socket: many messages in one atomic batch, answers with the kernel's words.
#![allow(unsafe_code)] // socket options without a safe wrapper: SOL_NETLINK, SO_NETNS_COOKIE.

mod batch;

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

pub use batch::{Batch, Encoder};

/// The kernel answers within the system call; this is for a kernel that does not.
const ANSWER_PATIENCE_S: i64 = 5;
/// 60,000 IPv4 and 60,000 IPv6 prefixes are 6.2 MB in one batch, twice for two tables.
const SEND_BUFFER: usize = 256 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

const HEADER: usize = 16; // struct nlmsghdr
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_TYPE_MASK: u16 = 0x3fff;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket (CAP_NET_ADMIN?): {0}")]
    Open(io::Error),
    #[error("cannot hand {bytes} bytes to the kernel: {cause}")]
    Send { bytes: usize, cause: io::Error },
    #[error("the kernel's answer could not be read, so what it did is unknown: {0}")]
    Receive(io::Error),
    #[error("the kernel's answer makes no sense, so what it did is unknown: {0}")]
    Malformed(&'static str),
    #[error("an attribute of `{0}` is longer than 64 KB; nothing was sent")]
    TooLong(&'static str),
    #[error("the kernel refused the batch, nothing of it was done: {}", list(.0))]
    Refused(Vec<Refusal>),
}

impl Error {
    /// Why the kernel refused, if it did; the first reason of several.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused(all) => all.first().map(|refusal| refusal.errno),
            _ => None,
        }
    }

    /// Whether the kernel refused and every reason is that what was named is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Refused(all) if all.iter().all(|r| r.errno == Errno::ENOENT))
    }
}

/// One message of a batch that the kernel did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Place in the batch; none for the batch as a whole.
    pub index: Option<usize>,
    pub label: &'static str,
    pub errno: Errno,
    /// The kernel's own words (extended ACK), often empty.
    pub text: String,
}

fn list(refusals: &[Refusal]) -> String {
    let words = refusals.iter().take(4).map(|r| {
        let more = if r.text.is_empty() {
            String::new()
        } else {
            format!(" ({})", r.text)
        };
        format!("{}: {}{more}", r.label, r.errno.desc())
    });
    words.collect::<Vec<_>>().join("; ")
}

/// NETLINK_NETFILTER. Tables with the owner flag live as long as this socket, so it is close-on-exec
/// and never handed to anyone.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub fn open() -> Result<Self, Error> {
        Self::of(SockProtocol::NetlinkNetFilter)
    }

    /// NETLINK_ROUTE.
    pub fn open_route() -> Result<Self, Error> {
        Self::of(SockProtocol::NetlinkRoute)
    }

    fn of(protocol: SockProtocol) -> Result<Self, Error> {
        let open = || -> Result<OwnedFd, Errno> {
            let fd = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                protocol,
            )?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER)?;
            setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            setsockopt(
                &fd,
                sockopt::ReceiveTimeout,
                &TimeVal::seconds(ANSWER_PATIENCE_S),
            )?;
            // Words with errors; and no copy of our own megabytes in every answer.
            enable(&fd, libc::NETLINK_EXT_ACK)?;
            enable(&fd, libc::NETLINK_CAP_ACK)?;
            Ok(fd)
        };
        Ok(Self {
            fd: open().map_err(|errno| Error::Open(errno.into()))?,
            sequence: 1,
        })
    }

    /// What tells the socket's network namespace from all others since boot (SO_NETNS_COOKIE of
    /// asm-generic/socket.h, Linux 5.14); none on an older kernel.
    pub fn namespace(&self) -> Option<u64> {
        let mut cookie = 0_u64;
        let mut size = size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: pointer and size describe `cookie`, the kernel writes no more than that; both outlive
        // the call, and the fd is open.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        (result == 0 && size as usize == size_of_val(&cookie)).then_some(cookie)
    }

    /// Sends all messages in one system call; the ACK is asked of message `acknowledged`, which must
    /// be the last that the kernel works on. An answer that cannot be read leaves unknown what was
    /// done; a refusal means that nothing was.
    pub fn commit(&mut self, mut batch: Batch, acknowledged: usize) -> Result<(), Error> {
        batch.acknowledge(acknowledged);
        let first = self.send(&mut batch)?;
        let last = first.wrapping_add(acknowledged as u32);
        let mut refusals = Vec::new();
        let mut acked = false;
        while !acked {
            self.receive(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= batch.len() {
                    return Ok(()); // an answer to something older
                }
                let (errno, text) = message.error()?;
                acked |= message.sequence == last;
                if errno != 0 {
                    let label = batch.label(index);
                    let whole = index == 0; // the kernel blames the batch on its first message
                    refusals.push(Refusal {
                        index: (!whole).then_some(index),
                        label: if whole { "batch" } else { label },
                        errno: Errno::from_raw(errno),
                        text,
                    });
                    // A batch that fails as a whole may never come to its last message.
                    acked |= whole;
                }
                Ok(())
            })?;
        }
        if refusals.is_empty() {
            Ok(())
        } else {
            Err(Error::Refused(refusals))
        }
    }

    /// Sends one message of a family that works on each by itself, and waits for its answer.
    pub fn request(
        &mut self,
        label: &'static str,
        kind_and_flags: (u16, u16),
        header: &[u8],
        inside: impl FnOnce(&mut Encoder),
    ) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.message_of(label, kind_and_flags, header, inside);
        match self.commit(batch, 0) {
            Err(Error::Refused(mut all)) => {
                all.iter_mut().for_each(|refusal| refusal.label = label);
                Err(Error::Refused(all))
            }
            answer => answer,
        }
    }

    /// [`Self::dump_whole`] for short headers: `each` gets the family (first byte) and the payload
    /// behind the first four bytes (struct nfgenmsg, or the beginning of a longer header).
    pub fn dump(
        &mut self,
        request: impl Fn() -> Batch,
        mut each: impl FnMut(u8, &[u8]),
        restart: impl FnMut(),
    ) -> Result<(), Error> {
        let behind = |payload: &[u8]| {
            let family = *payload.first().ok_or(SHORT)?;
            each(family, payload.get(4..).ok_or(SHORT)?);
            Ok(())
        };
        self.dump_whole(request, behind, restart)
    }

    /// Sends one dump request; `each` gets the payload of every answer. Starts again, up to a limit,
    /// if the tables changed meanwhile.
    pub fn dump_whole(
        &mut self,
        request: impl Fn() -> Batch,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
        mut restart: impl FnMut(),
    ) -> Result<(), Error> {
        for _ in 0..10 {
            restart();
            let first = self.send(&mut request())?;
            let (mut done, mut torn) = (false, false);
            while !done {
                self.receive(|message| {
                    if message.sequence != first {
                        return Ok(());
                    }
                    torn |= message.flags & NLM_F_DUMP_INTR != 0;
                    match message.kind {
                        // Both begin with an errno, negative or 0.
                        NLMSG_DONE | NLMSG_ERROR => {
                            done = true;
                            let (errno, text) = message.error()?;
                            if errno == 0 {
                                return Ok(());
                            }
                            let errno = Errno::from_raw(errno);
                            let refusal = Refusal {
                                index: None,
                                label: "dump",
                                errno,
                                text,
                            };
                            Err(Error::Refused(vec![refusal]))
                        }
                        _ => each(message.payload),
                    }
                })?;
            }
            if !torn {
                return Ok(());
            }
        }
        Err(Error::Receive(io::Error::other(
            "the tables changed during each of ten dumps",
        )))
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, Error> {
        if let Some(label) = batch.broken {
            return Err(Error::TooLong(label));
        }
        let first = self.sequence;
        self.sequence = first.wrapping_add(batch.len() as u32);
        batch.number(first);
        let bytes = batch.as_bytes();
        let fd = self.fd.as_raw_fd();
        let kernel = NetlinkAddr::new(0, 0);
        let sent = sendmsg(
            fd,
            &[IoSlice::new(bytes)],
            &[],
            MsgFlags::empty(),
            Some(&kernel),
        );
        let cause = match sent {
            Ok(count) if count == bytes.len() => return Ok(first),
            Ok(_) => io::Error::from(io::ErrorKind::WriteZero),
            Err(errno) => errno.into(),
        };
        Err(Error::Send {
            bytes: bytes.len(),
            cause,
        })
    }

    fn receive(&self, mut each: impl FnMut(Answer<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0_u8; 64 << 10];
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => return Err(Error::Malformed("too long")),
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Receive(errno.into())),
            }
        };
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let (answer, size) = Answer::parse(rest).ok_or(SHORT)?;
            each(answer)?;
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Ok(())
    }
}

const SHORT: Error = Error::Malformed("shorter than its own header says");

fn enable(fd: &OwnedFd, option: libc::c_int) -> Result<(), Errno> {
    let one: libc::c_int = 1;
    // SAFETY: the pointer and length describe `one`, which outlives the call; the fd is open.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const one).cast(),
            size_of_val(&one) as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// One message from the kernel.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Answer<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let size = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
        let answer = Self {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?),
            payload: bytes.get(HEADER..size)?,
        };
        Some((answer, size))
    }

    /// errno (0: an ACK) and the kernel's words of a struct nlmsgerr.
    fn error(&self) -> Result<(i32, String), Error> {
        let errno = self.payload.get(0..4).ok_or(SHORT)?;
        let errno = i32::from_ne_bytes(errno.try_into().map_err(|_| SHORT)?);
        let mut text = String::new();
        if self.flags & NLM_F_ACK_TLVS != 0 {
            // With NETLINK_CAP_ACK only the header of our own message comes back.
            for (kind, value) in attributes(self.payload.get(4 + HEADER..).unwrap_or(&[])) {
                if kind == NLMSGERR_ATTR_MSG {
                    text = String::from_utf8_lossy(value)
                        .trim_end_matches('\0')
                        .to_owned();
                }
            }
        }
        Ok((errno.saturating_neg(), text))
    }
}

/// Walks attributes; ends at the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}
