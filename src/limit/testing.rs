//! Samples to try algorithms with.

use std::time::Duration;

use tokio::time::Instant;

use super::sample::{Outcome, Sample};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns the sample of a call that took `time`, dispatched as the last of `in_flight`.
pub(super) fn sample(time: Duration, in_flight: usize, outcome: Outcome) -> Sample {
    Clock::new().sample(time, in_flight, outcome)
}

/// A clock that only [`pass`](Self::pass) moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self::at(Instant::now())
    }

    pub(super) fn at(now: Instant) -> Self {
        Self { now }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Returns the sample of a call dispatched now, with the limit used up.
    pub(super) fn sample(&self, time: Duration, in_flight: usize, outcome: Outcome) -> Sample {
        let mut sample = Sample::new(self.now, self.now + time, outcome);
        sample.in_flight_at_dispatch = in_flight;
        sample.limit_reached = true;
        sample
    }
}
