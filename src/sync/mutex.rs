//! The two kinds of locks: for the crate's own data, and for a value of the user's.

use std::{
    ops::{Deref, DerefMut},
    sync::{PoisonError, TryLockError},
};

use super::primitives;

/// A mutex for the crate's own data. While a thread holds the mutex, no code of the user's runs,
/// and no waker is cloned, woken or dropped (law 19): user code and wakers may call the leveler,
/// which would find the mutex locked.
///
/// [`with`](Self::with) returns the parts to wake or drop, and the caller wakes or drops them after
/// the unlock. Builds with debug assertions panic when a thread locks a second mutex, or a
/// [`UserMutex`]: only code of the user's could have led there.
///
/// A panic does not poison the mutex, since the data is whole at every step.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(primitives::Mutex<T>);

/// Access to the data behind a [`Mutex`], which is locked while the guard lives.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    content: primitives::MutexGuard<'a, T>,
    // After the content: the unlock comes first.
    _held: Held,
}

/// A mutex around a value of the user's. The methods of the value run under the lock. A panic does
/// not poison the mutex.
#[derive(Debug, Default)]
pub(crate) struct UserMutex<T>(primitives::Mutex<T>);

/// Access to the value behind a [`UserMutex`].
pub(crate) type UserMutexGuard<'a, T> = primitives::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) const fn new(content: T) -> Self {
        Self(primitives::Mutex::new(content))
    }

    /// Runs `run` under the lock. The result outlives the lock: put everything to be woken or
    /// dropped into the result.
    #[inline(always)]
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

    /// Returns access to the data, for the only owner of the mutex.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the data, for the last owner of the mutex.
    #[inline]
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
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

/// A guard for the time in which this thread holds a [`Mutex`]. Does nothing without debug
/// assertions. Does nothing with `cfg(shuttle)` either: one thread plays all, and the scheduler
/// itself finds deadlocks.
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
