//! The two kinds of locks: for data of ours, and for a value of the user's.

use std::{
    ops::{Deref, DerefMut},
    sync::{PoisonError, TryLockError},
};

use super::primitives;

/// A mutex for data of the crate's own. No code of the user's runs while it is locked, and no waker
/// is cloned, woken or dropped (law 19): each may call the leveler, and would find it locked.
///
/// [`with`](Self::with) returns the parts to be woken or dropped, and they meet their end after the
/// unlock. Builds with debug assertions panic when a thread locks a second one, or a
/// [`UserMutex`]: the code that does so is the user's.
///
/// A panic does not poison it, since the data is whole at every step.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

/// Access to the data behind a [`Mutex`], which is locked while the guard lives.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    content: primitives::MutexGuard<'a, T>,
    // After the content: the unlock comes first.
    _held: Held,
}

/// A mutex around a value of the user's, whose methods run while it is locked. A panic does not
/// poison it.
#[derive(Debug, Default)]
pub(crate) struct UserMutex<T>(primitives::Mutex<T>);

/// Access to the value behind a [`UserMutex`].
pub(crate) type UserMutexGuard<'a, T> = primitives::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self(primitives::Mutex::new(content))
    }

    /// Runs `run` under the lock. Its result outlives the lock: it takes along what is to be woken
    /// or dropped.
    #[inline]
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        run(&mut self.lock())
    }

    /// Runs `run` under the lock, unless another thread holds it.
    pub(crate) fn try_with<R>(&self, run: impl FnOnce(&mut T) -> R) -> Option<R> {
        let _held = Held::begin();
        match self.0.try_lock() {
            Ok(mut content) => Some(run(&mut content)),
            Err(TryLockError::Poisoned(poisoned)) => Some(run(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::begin();
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { content, _held: held }
    }
}

impl<T> UserMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(primitives::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> UserMutexGuard<'_, T> {
        Held::check();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `None` if the value is locked.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<UserMutexGuard<'_, T>> {
        Held::check();
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.content
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.content
    }
}

/// The fact that this thread holds a [`Mutex`]. Nothing without debug assertions, and nothing with
/// `cfg(shuttle)`, where one thread plays all and the scheduler itself finds who waits for ever.
#[derive(Debug)]
struct Held;

#[cfg(all(debug_assertions, not(shuttle)))]
thread_local! {
    static IS_HELD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(all(debug_assertions, not(shuttle)))]
impl Held {
    fn begin() -> Self {
        assert!(!IS_HELD.replace(true), "code of the user's runs under a lock of the leveler's");
        Self
    }

    fn check() {
        drop(Self::begin());
    }
}

#[cfg(all(debug_assertions, not(shuttle)))]
impl Drop for Held {
    fn drop(&mut self) {
        IS_HELD.set(false);
    }
}

#[cfg(not(all(debug_assertions, not(shuttle))))]
impl Held {
    #[inline(always)]
    const fn begin() -> Self {
        Self
    }

    #[inline(always)]
    const fn check() {}
}
