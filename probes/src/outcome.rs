//! How one probe ended.

use std::error::Error;
use std::io;

/// What a probe met. Slowness is judged later, when its stream's threshold is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered as expected.
    Answered,
    /// No answer in time.
    Timeout(String),
    /// Connection refused, reset or closed without an answer.
    Reset(String),
    /// A status of 500 to 599: somebody is there and cannot serve.
    ServerError(String),
    /// Wrong status, wrong body, unreachable, anything else.
    Error(String),
    /// The prober's own fault: no descriptor, no port, no memory, no time. Counts for nothing.
    Invalid,
}

impl Outcome {
    /// Sorts an operating system error.
    pub fn of_io(step: &str, error: &io::Error) -> Self {
        let text = format!("{step}: {error}");
        if is_local_shortage(error) {
            return Self::Invalid;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Reset(text),
            io::ErrorKind::TimedOut => Self::Timeout(text),
            _ => Self::Error(text),
        }
    }

    /// Sorts an HTTP answer that is not as wanted.
    pub fn of_status(status: u16, what: String) -> Self {
        match status {
            500..=599 => Self::ServerError(what),
            _ => Self::Error(what),
        }
    }

    /// The same outcome, told as that of one step of several.
    pub fn in_step(self, step: &str) -> Self {
        let told = |what: String| format!("step {step}: {what}");
        match self {
            Self::Timeout(what) => Self::Timeout(told(what)),
            Self::Reset(what) => Self::Reset(told(what)),
            Self::ServerError(what) => Self::ServerError(told(what)),
            Self::Error(what) => Self::Error(told(what)),
            whole @ (Self::Answered | Self::Invalid) => whole,
        }
    }

    /// Sorts an error of the HTTP client.
    pub fn of_http(step: &str, error: &hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(error) = inner.downcast_ref::<io::Error>() {
                return Self::of_io(step, error);
            }
            source = inner.source();
        }
        let text = format!("{step}: {error}");
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Reset(text);
        }
        Self::Error(text)
    }
}

/// Errors that say something about this machine and nothing about what was asked: `EMFILE`,
/// `ENFILE`, `ENOMEM`, `ENOBUFS`, `EADDRNOTAVAIL` (no free port) of errno(3), Linux numbers.
fn is_local_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105 | 99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_whose_fault_they_are() {
        let of = |number| Outcome::of_io("connect", &io::Error::from_raw_os_error(number));
        assert!(matches!(of(111), Outcome::Reset(_)), "refused");
        assert!(matches!(of(104), Outcome::Reset(_)), "reset");
        assert!(matches!(of(110), Outcome::Timeout(_)), "ETIMEDOUT");
        assert!(matches!(of(113), Outcome::Error(_)), "EHOSTUNREACH");
        assert_eq!(of(24), Outcome::Invalid, "EMFILE");
        assert_eq!(of(99), Outcome::Invalid, "EADDRNOTAVAIL");
    }
}
