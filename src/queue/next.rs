//! The answers of a queue: the next request, and the victim.

use std::time::Duration;

use super::{charge::Charge, guaranteed_share::LEVELS, item::Entry};
use crate::error::Reason;

/// The mean service time of each priority, once known.
pub(crate) type Times = [Option<Duration>; LEVELS];

/// The next request, and the action to take.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// To be called, and charged already.
    Dispatch(Entry<T>, Charge),
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
