//! A rare call to another cell in the path of a checkout, as a forgotten experiment leaves it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Flaw: ask this pricing for some of the prices
    #[arg(long, value_name = "IP:PORT", requires = "detour_every")]
    detour: Option<SocketAddr>,
    /// One checkout in this many
    #[arg(long, value_name = "N", requires = "detour")]
    detour_every: Option<NonZeroUsize>,
}

/// Where the price of the next checkout comes from, if not from the own cell.
pub struct Detour {
    options: Options,
    checkouts: AtomicUsize,
}

impl Detour {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            checkouts: AtomicUsize::new(0),
        }
    }

    pub fn next(&self) -> Option<SocketAddr> {
        let every = self.options.detour_every?.get();
        let number = self.checkouts.fetch_add(1, Ordering::Relaxed);
        self.options.detour.filter(|_| number % every == every - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_goes_elsewhere() {
        let detour = |every| {
            Detour::new(Options {
                detour: "10.0.0.1:1".parse().ok(),
                detour_every: NonZeroUsize::new(every),
            })
        };
        let gone = |detour: Detour| (0..100).filter_map(|_| detour.next()).count();
        assert_eq!(gone(detour(20)), 5);
        assert_eq!(gone(detour(0)), 0);
    }
}
