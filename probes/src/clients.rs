//! The users of an entrypoint: a fixed population of four kinds, each with the address it keeps.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scenarios::effects::{ClientKind, ClientMix};
use tokio::time::Instant;

/// So many at least, or a slow entrypoint would lack some kinds.
const LEAST: usize = 20;

/// One user, who asks about once a second.
pub struct Client {
    pub kind: ClientKind,
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone, Copy)]
struct Kept {
    address: IpAddr,
    /// `None`: for ever.
    until: Option<Instant>,
}

impl Client {
    /// The address that it asks without asking DNS first.
    pub fn kept(&self, now: Instant) -> Option<IpAddr> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (*kept)?;
        (kept.until.is_none_or(|until| until > now)).then_some(kept.address)
    }

    /// What DNS answered just now.
    pub fn keep(&self, address: IpAddr, now: Instant, ttl: Duration) {
        let until = match self.kind {
            ClientKind::IgnoresTtl | ClientKind::Pinned => None,
            ClientKind::HonoursTtl | ClientKind::Retries => Some(now + ttl),
        };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept { address, until });
    }
}

/// All users of one entrypoint.
pub struct Population(Vec<Client>);

impl Population {
    /// `cells`: the first address of each cell and its share, for those who are pinned.
    pub fn new(mix: &ClientMix, rate: f64, cells: &[(IpAddr, f64)]) -> Self {
        // A rate is at most 1000/s.
        let count = (rate.ceil() as usize).max(LEAST);
        let mut kinds = Rotation::new(ClientKind::ALL.map(|kind| (kind, mix.of(kind))));
        let mut pins = Rotation::new(cells.iter().copied());
        let client = |_| {
            let kind = kinds.next().unwrap_or(ClientKind::HonoursTtl);
            let pin = (kind == ClientKind::Pinned).then(|| pins.next()).flatten();
            let kept = pin.map(|address| Kept {
                address,
                until: None,
            });
            Client {
                kind,
                kept: Mutex::new(kept),
            }
        };
        Self((0..count).map(client).collect())
    }

    /// Who asks with probe number `k`.
    pub fn of(&self, k: u64) -> Option<&Client> {
        let count = u64::try_from(self.0.len()).unwrap_or(u64::MAX).max(1);
        self.0.get(usize::try_from(k % count).unwrap_or(0))
    }
}

/// Smooth weighted round robin: the shares hold over every stretch, well mixed.
struct Rotation<T>(Vec<(T, f64, f64)>);

impl<T: Copy> Rotation<T> {
    fn new(weights: impl IntoIterator<Item = (T, f64)>) -> Self {
        let weights = weights.into_iter().filter(|(_, weight)| *weight > 0.0);
        Self(weights.map(|(item, weight)| (item, weight, 0.0)).collect())
    }

    fn next(&mut self) -> Option<T> {
        let total: f64 = self.0.iter().map(|(_, weight, _)| weight).sum();
        for (_, weight, current) in &mut self.0 {
            *current += *weight;
        }
        let best = self.0.iter_mut().max_by(|a, b| a.2.total_cmp(&b.2))?;
        best.2 -= total;
        Some(best.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_population_holds_the_declared_shares_and_pins_by_cell() {
        let cells = [(address(1), 0.5), (address(2), 0.25), (address(3), 0.25)];
        let population = Population::new(&ClientMix::default(), 120.0, &cells);
        let count = |kind| {
            (0..120)
                .filter(|k| population.of(*k).unwrap().kind == kind)
                .count()
        };
        let near = |found: usize, wanted: usize| assert!(found.abs_diff(wanted) <= 1, "{found}");
        for (kind, wanted) in ClientKind::ALL.into_iter().zip([84, 12, 12, 12]) {
            near(count(kind), wanted);
        }
        let now = Instant::now();
        let pinned = |cell: u8| {
            let clients = (0..120).filter_map(|k| population.of(k));
            clients
                .filter(|c| c.kept(now) == Some(address(cell)))
                .count()
        };
        for (cell, wanted) in [(1, 6), (2, 3), (3, 3)] {
            near(pinned(cell), wanted);
        }
        let few = Population::new(&ClientMix::default(), 0.5, &cells);
        assert!((0..20).any(|k| few.of(k).unwrap().kind == ClientKind::Retries));
    }

    #[test]
    fn an_address_is_kept_as_its_kind_keeps_it() {
        let now = Instant::now();
        let later = now + Duration::from_secs(6);
        for kind in ClientKind::ALL {
            let population = Population::new(&ClientMix::only(kind), 20.0, &[(address(1), 1.0)]);
            let client = population.of(0).unwrap();
            client.keep(address(2), now, Duration::from_secs(5));
            assert_eq!(client.kept(now), Some(address(2)), "{kind:?}");
            let forgets = matches!(kind, ClientKind::HonoursTtl | ClientKind::Retries);
            assert_eq!(client.kept(later).is_none(), forgets, "{kind:?}");
        }
    }
}
