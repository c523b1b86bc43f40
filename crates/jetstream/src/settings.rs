//! The settings of a worker.

use std::time::Duration;

use crate::{Confirm, Late};

/// What a worker is told by its builder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) prefetch: Option<usize>,
    pub(crate) max_attempts: u64,
    pub(crate) max_deliveries: u64,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) dead_letters: String,
    pub(crate) confirm: Confirm,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) drain_deadline: Duration,
    pub(crate) late: Late,
}
