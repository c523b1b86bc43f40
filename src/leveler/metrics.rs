use std::time::Duration;

use tokio::time::Instant;

use crate::{
    stats::{PriorityRecorder, Recorder},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// Measurements of calls, beside the counts in [`Admission`](super::admission::Admission).
pub(crate) struct Metrics {
    /// The time at which the leveler was built.
    pub(crate) built: Instant,
    /// The time from admission to dispatch, of requests from the queue.
    pub(crate) wait: PriorityRecorder,
    /// The time from dispatch to the return of the call.
    pub(crate) service_time: Recorder,
    /// The ended waits for a place.
    pub(crate) place_wait: Recorder,
    pub(crate) refusing: Refusing,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            built: Instant::now(),
            wait: PriorityRecorder::default(),
            service_time: Recorder::default(),
            place_wait: Recorder::default(),
            refusing: Refusing(AtomicBool::new(false)),
        }
    }

    /// Records a wait for a place.
    pub(crate) fn on_place_wait(&self, waited: Duration) {
        self.place_wait.record(waited);
    }
}

/// Remembers whether a request was refused, or a service had to wait for a place, since the drain
/// task last looked.
#[derive(Debug)]
pub(crate) struct Refusing(AtomicBool);

impl Refusing {
    /// Records a refusal or a wait. Returns whether it is the first since the last look.
    pub(crate) fn begin(&self) -> bool {
        !self.is_on() && !self.0.swap(true, SeqCst)
    }

    /// Takes note of a look. Returns whether a request was refused before. Call before the counters
    /// are read.
    pub(crate) fn end(&self) -> bool {
        self.is_on() && self.0.swap(false, SeqCst)
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(SeqCst)
    }
}
