use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::stats::Recorder;

/// What is measured of calls, beside the counts that [`Admission`](super::admission::Admission)
/// keeps.
pub(crate) struct Metrics {
    /// Admission to dispatch, of requests from the queue.
    pub(crate) wait: Recorder,
    /// Dispatch to finish.
    pub(crate) service_time: Recorder,
    pub(crate) overflow: Notice,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            wait: Recorder::new(),
            service_time: Recorder::new(),
            overflow: Notice(AtomicBool::new(false)),
        }
    }
}

/// Remembers whether an event was said and not yet taken back.
#[derive(Debug)]
pub(crate) struct Notice(AtomicBool);

impl Notice {
    /// Returns whether to say it now.
    pub(crate) fn begin(&self) -> bool {
        !self.0.load(SeqCst) && !self.0.swap(true, SeqCst)
    }

    /// Returns whether to take it back now.
    pub(crate) fn end(&self) -> bool {
        self.0.load(SeqCst) && self.0.swap(false, SeqCst)
    }
}
