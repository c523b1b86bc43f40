use std::time::Duration;

use super::mean::Mean;
use crate::{
    class::Priority,
    queue::Times,
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

const LEVELS: usize = Priority::ALL.len();

/// Means of the service time: of all calls, and of each priority.
#[derive(Debug)]
pub(crate) struct ServiceTimes {
    all: Mean,
    levels: [Mean; LEVELS],
    /// Set once a call of another priority than the default has ended. Until then nobody reads the
    /// means by priority, and recording is on the path of every call.
    has_priorities: AtomicBool,
}

impl ServiceTimes {
    pub(super) fn new() -> Self {
        Self {
            all: Mean::new(),
            levels: [const { Mean::new() }; LEVELS],
            has_priorities: AtomicBool::new(false),
        }
    }

    pub(super) fn record(&self, priority: Priority, nanos: f32) {
        self.all.record(nanos);
        if priority != Priority::default() && !self.has_priorities.load(Relaxed) {
            self.has_priorities.store(true, Relaxed);
        }
        if self.has_priorities.load(Relaxed) {
            self.levels[priority.index()].record(nanos);
        }
    }

    /// Returns the mean service time of all calls, in nanoseconds.
    pub(super) fn nanos(&self) -> Option<f32> {
        let (nanos, samples) = self.all.load();
        (samples > 0).then_some(nanos)
    }

    /// Returns the mean service time of all calls.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.all.get()
    }

    /// Returns the mean service time of each priority, or of all calls for a priority without
    /// samples.
    pub(crate) fn by_priority(&self) -> Times {
        let all = self.all.get();
        if !self.has_priorities.load(Relaxed) {
            return [all; LEVELS];
        }
        self.levels.each_ref().map(|level| level.get().or(all))
    }
}
