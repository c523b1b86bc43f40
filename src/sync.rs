//! The primitives that threads share.
//!
//! All code of the crate takes them from here. In the workspace member `models`, which sets
//! `cfg(shuttle)`, they are those of `shuttle`: its scheduler decides at each operation which
//! thread goes on. `Arc` and `Weak` are those of `std` in both.

#[cfg(shuttle)]
use shuttle::sync as primitives;
#[cfg(not(shuttle))]
use std::sync as primitives;
use std::{
    ops::{Deref, DerefMut},
    sync::{PoisonError, TryLockError},
};

/// Atomics that threads coordinate by.
pub(crate) mod atomic {
    pub(crate) use super::primitives::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// Atomics of figures: counters, means, histograms, seeds. No thread waits for one, so no order of
/// theirs is worth a try. Those of `std` also with `cfg(shuttle)`.
pub(crate) mod figure {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

#[cfg(shuttle)]
pub(crate) use shuttle::hint::spin_loop;
#[cfg(not(shuttle))]
pub(crate) use std::hint::spin_loop;

/// A mutex that a panic does not poison: data behind the crate's locks is whole at every step.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

/// Access to the data behind a [`Mutex`], which is locked while the guard lives.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T>(primitives::MutexGuard<'a, T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self(primitives::Mutex::new(content))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns `None` if the mutex is locked.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(MutexGuard(guard)),
            Err(TryLockError::Poisoned(poisoned)) => Some(MutexGuard(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
