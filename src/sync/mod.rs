//! The primitives that threads share.
//!
//! All code of the crate uses the primitives of this module. In the workspace member `models`,
//! which sets `cfg(shuttle)`, the primitives come from `shuttle`. The scheduler of `shuttle`
//! decides at each operation which thread goes on. `Arc` and `Weak` come from `std` in both.

pub(crate) mod atomic;
mod cache_padded;
#[cfg(all(test, shuttle))]
pub(crate) mod explore;
pub(crate) mod fault;
mod mutex;
mod primitives;
pub(crate) mod tasks;
#[cfg(shuttle)]
mod waker;

#[cfg(not(shuttle))]
pub(crate) use futures::task::AtomicWaker;
#[cfg(shuttle)]
pub(crate) use shuttle::hint::spin_loop;
#[cfg(not(shuttle))]
pub(crate) use std::hint::spin_loop;

pub(crate) use self::cache_padded::CachePadded;
pub(crate) use self::mutex::{Mutex, MutexGuard, UserMutex, UserMutexGuard};
#[cfg(shuttle)]
pub(crate) use self::waker::AtomicWaker;

/// Atomics of figures: counters, means, histograms, seeds. No thread waits for a figure, so a
/// scheduler has no orders to try. Always from `std`, even with `cfg(shuttle)`.
pub(crate) mod figure {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}
