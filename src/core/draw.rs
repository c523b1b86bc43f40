use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::queue::mix;

/// A number from 0 to 1 to spread things by.
pub(super) fn draw() -> f64 {
    mix(seed()) as f64 / u64::MAX as f64
}

/// What such a number can be made of, another each time. Each thread has a sequence of its own, since every refusal
/// takes one.
pub(super) fn seed() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
    }
    let next = NEXT.get().unwrap_or_else(|| THREADS.fetch_add(1, Relaxed) << 32);
    NEXT.set(Some(next.wrapping_add(1)));
    next
}
