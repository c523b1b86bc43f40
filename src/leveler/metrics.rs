use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

use crate::{
    stats::Recorder,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// Measurements of calls, beside the counts in [`Admission`](super::admission::Admission).
pub(crate) struct Metrics {
    /// The time at which the leveler was built.
    pub(crate) built: Instant,
    /// The time from admission to dispatch, of requests from the queue.
    pub(crate) wait: Recorder,
    /// The time from dispatch to the return of the call.
    pub(crate) service_time: Recorder,
    /// The waits for a place that are over. Made at the first: most levelers never wait for one.
    pub(crate) place_wait: OnceLock<Recorder>,
    pub(crate) overflow: Notice,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            built: Instant::now(),
            wait: Recorder::new(),
            service_time: Recorder::new(),
            place_wait: OnceLock::new(),
            overflow: Notice(AtomicBool::new(false)),
        }
    }

    /// Records a wait for a place.
    pub(crate) fn on_place_wait(&self, waited: Duration) {
        self.place_wait.get_or_init(Recorder::new).record(waited);
    }
}

/// Remembers whether an event was logged and its end was not.
#[derive(Debug)]
pub(crate) struct Notice(AtomicBool);

impl Notice {
    /// Begins the event. Returns whether to log the beginning.
    pub(crate) fn begin(&self) -> bool {
        !self.0.load(SeqCst) && !self.0.swap(true, SeqCst)
    }

    /// Ends the event. Returns whether to log the end.
    pub(crate) fn end(&self) -> bool {
        self.0.load(SeqCst) && self.0.swap(false, SeqCst)
    }
}
