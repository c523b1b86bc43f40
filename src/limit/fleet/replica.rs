//! A leveler with its algorithm, its queue and its arrivals.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{limit::algorithm::Algorithm, rng::mix};

/// The longest wait of a request in its leveler.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) arrived: Instant,
    pub(super) work: Duration,
}

pub(super) struct Replica<A> {
    pub(super) algorithm: A,
    pub(super) queue: VecDeque<Request>,
    pub(super) in_flight: usize,
    /// The time of the last dispatch, and the factor of the next spacing.
    pub(super) last: Option<(Instant, f64)>,
    /// The mean service time known to the leveler, in seconds.
    pub(super) mean: Option<f64>,
    pub(super) arrivals: Random,
    pub(super) spreads: Random,
    /// The integral of the limit over the measured time, up to `since`.
    pub(super) area: f64,
    pub(super) since: Instant,
}

impl<A: Algorithm> Replica<A> {
    pub(super) fn whole_limit(&self) -> usize {
        (self.algorithm.limit() as usize).max(1)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|request| request.arrived + PATIENCE <= now) {
            self.queue.pop_front();
        }
    }

    /// Returns the time from which the spacing of a limit below 1 allows the next dispatch.
    pub(super) fn due(&self) -> Option<Instant> {
        let limit = self.algorithm.limit();
        let ((last, spread), mean) = self.last.zip(self.mean).filter(|_| limit < 1.0)?;
        Some(last + Duration::from_secs_f64(mean / limit * spread))
    }

    /// Adds the limit up to `now` to the integral.
    pub(super) fn sum_up(&mut self, now: Instant) {
        if now > self.since {
            self.area += self.algorithm.limit() * (now - self.since).as_secs_f64();
            self.since = now;
        }
    }
}

/// A SplitMix64 sequence.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Draws a number from 0 to 1, without 1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}
