//! Pseudo-random numbers.

use std::cell::Cell;

use crate::sync::figure::{AtomicU64, Ordering::Relaxed};

/// Returns a pseudo-random number from 0 to 1.
pub(crate) fn draw() -> f64 {
    mix(seed()) as f64 / u64::MAX as f64
}

/// Returns a seed, a new value each time. Each thread has its own sequence, since every refusal
/// takes a seed and a shared counter would be contended.
pub(crate) fn seed() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
    }
    let next = NEXT.get().unwrap_or_else(|| THREADS.fetch_add(1, Relaxed) << 32);
    NEXT.set(Some(next.wrapping_add(1)));
    next
}

/// Returns true for one in `many` of the successive seeds of a thread, spread evenly and without a
/// period: multiples of the golden ratio (Weyl's sequence). Cheaper than [`draw`].
#[inline]
pub(crate) fn is_one_in(many: u64, seed: u64) -> bool {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) < u64::MAX / many
}

/// Spreads the bits of a number over the whole word: the last step of SplitMix64 (Steele, Lea and
/// Flood).
pub(crate) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
