//! The longest wait allowed to a request.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A time after an admission, in nanoseconds, or never. Half the size of an `Instant`; each waiting
/// request has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct After(u64);

impl After {
    const NEVER: Self = Self(u64::MAX);

    pub(crate) const ZERO: Self = Self(0);

    /// Returns the time after an admission. Durations above five centuries are never.
    #[inline]
    pub(crate) fn new(time: Option<Duration>) -> Self {
        let nanos = time.and_then(|time| u64::try_from(time.as_nanos()).ok());
        nanos.map_or(Self::NEVER, Self)
    }

    #[inline]
    pub(crate) fn is_never(self) -> bool {
        self == Self::NEVER
    }

    #[inline]
    pub(crate) fn get(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0))
    }

    /// Returns by how much this time is later than another. `None` for never.
    #[inline]
    pub(crate) fn later_than(self, other: Self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(other.0)))
    }

    /// Returns the instant this long after `admitted`.
    pub(crate) fn of(self, admitted: Instant) -> Option<Instant> {
        admitted.checked_add(self.get()?)
    }
}

/// The wait limit of newcomers. A handle may change the limit.
#[derive(Debug)]
pub(crate) struct MaxWait(AtomicU64);

impl MaxWait {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self(AtomicU64::new(After::new(limit).0))
    }

    #[inline]
    pub(crate) fn get(&self) -> After {
        After(self.0.load(SeqCst))
    }

    pub(crate) fn set(&self, limit: Option<Duration>) {
        self.0.store(After::new(limit).0, SeqCst);
    }
}
