//! The wishes of the handles of a worker, and its end.

use tokio::time::Instant;

use crate::Report;

/// What a worker is told by its handles, and what they are told of its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    pub(crate) paused: bool,
    /// Until when to drain, once asked for.
    pub(crate) drain: Option<Instant>,
    /// Once the worker has ended: the report, if any.
    pub(crate) end: Option<Option<Report>>,
}
