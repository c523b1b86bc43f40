//! The answers of a queue: the next request, and the victim.

use std::time::Duration;

use super::{guaranteed_share::LEVELS, item::Entry};
use crate::error::Reason;

/// The mean service times of the priorities. Looked up only when needed: mostly a flow goes by a
/// mean of its own.
pub(crate) trait Times {
    /// The mean service time of the priority at the index `level`, once known.
    fn of(&self, level: usize) -> Option<Duration>;
}

impl Times for [Option<Duration>; LEVELS] {
    fn of(&self, level: usize) -> Option<Duration> {
        self[level]
    }
}

/// The next request, and the action to take.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// To be called, and charged already.
    Dispatch(Entry<T>),
    /// To be rejected with the reason.
    Remove(Entry<T>, Reason),
}

/// An evicted request.
#[derive(Debug)]
pub(crate) struct Victim<T> {
    pub(crate) entry: Entry<T>,
    pub(crate) reason: Reason,
    /// Set if the flow had used up its share: the victim gave way to a request of the same
    /// priority, and the victim's flow had more waiting than the mean.
    pub(crate) over_share: bool,
}
