//! Memory that this process has freed goes back to the kernel, not into a store for later.
#![allow(unsafe_code)] // mallopt(3) and malloc_trim(3) have no safe wrapper.

/// A freed block of this size (bytes) or more is unmapped at once. It is glibc's own first choice, but
/// glibc raises it to the largest block that was ever freed, up to 32 MiB, and then keeps such blocks: an
/// agent would hold for its whole life what one large plan took. Other allocators are left as they are.
#[cfg(target_env = "gnu")]
const UNMAPPED_FROM: libc::c_int = 128 << 10;

/// From now on large blocks are not kept. Before other threads are started.
pub fn keep_no_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and only alters when the allocator asks the kernel.
    let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, UNMAPPED_FROM) };
    #[cfg(target_env = "gnu")]
    if taken == 0 {
        tracing::warn!("the allocator does not take a limit; this process may hold more memory");
    }
}

/// Gives back what small freed blocks still occupy: after something large, not in a hurry.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory alone, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    /// KiB of this process in main memory.
    fn held() -> u64 {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
        number.parse().unwrap()
    }

    fn block(bytes: usize) -> Vec<u8> {
        std::hint::black_box(vec![1; bytes])
    }

    #[test]
    fn what_is_freed_is_given_back() {
        keep_no_large_blocks();
        drop(block(24 << 20)); // with this glibc would raise its limit
        let (large, above) = (block(16 << 20), block(1 << 10));
        let full = held();
        drop(large);
        let after = held();
        assert!(after + (12 << 10) < full, "{full} KiB, then {after} KiB");

        let small: Vec<Vec<u8>> = (0..200_000).map(|_| block(100)).collect();
        let guard = block(100); // so that they do not end the heap
        let full = held();
        drop(small);
        give_back();
        let after = held();
        assert!(after + (12 << 10) < full, "{full} KiB, then {after} KiB");
        drop((guard, above));
    }
}
