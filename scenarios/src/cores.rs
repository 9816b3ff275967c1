//! One list's work, split over the cores of the machine.

use std::num::NonZeroUsize;
use std::thread;

/// `of` each item, in the order of the items. `least` items are worth a thread of their own.
///
/// A panic of `of` goes on in the caller.
pub fn map<T: Sync, U: Send>(items: &[T], least: usize, of: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = cores.min(items.len() / least.max(1)).max(1);
    if threads == 1 {
        return items.iter().map(of).collect();
    }
    let work = |share: &[T]| share.iter().map(&of).collect::<Vec<U>>();
    let work = &work;
    thread::scope(|scope| {
        let shares = items.chunks(items.len().div_ceil(threads));
        let begun: Vec<_> = shares
            .map(|share| {
                let thread = thread::Builder::new().spawn_scoped(scope, move || work(share));
                (share, thread)
            })
            .collect();
        let done = begun.into_iter().map(|(share, thread)| match thread {
            // No more threads for this process: the work is done here.
            Err(_) => work(share),
            Ok(thread) => match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        });
        done.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_in_its_place() {
        for count in [0, 1, 2, 3, 7, 1_000] {
            let items: Vec<usize> = (0..count).collect();
            for least in [0, 1, 3, 5_000] {
                assert_eq!(
                    map(&items, least, |item| *item),
                    items,
                    "{count} by {least}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "the last one")]
    fn a_panic_is_not_lost() {
        map(&[1, 2, 3, 4], 1, |item| assert!(*item < 4, "the last one"));
    }
}
