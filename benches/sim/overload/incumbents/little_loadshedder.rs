use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Sample};

use super::counts;

/// The weight of one latency in the average, without a default; that of `examples/microservice.rs`.
const WEIGHT: f64 = 0.01;
/// How many changes there may be in the time in which the average forgets.
const CHANGES: f64 = 10.0;

/// One up or down at a time: up as long as throughput follows and the latency is below a target.
///
/// Throughput is by Little's law what is in flight over the average latency.
#[derive(Debug)]
pub(super) struct LittleLoadshedder {
    limit: usize,
    /// In seconds, as is the average.
    target: f64,
    latency: f64,
    changed: Option<Instant>,
    in_flight_before: usize,
    throughput_before: f64,
}

impl LittleLoadshedder {
    pub(super) fn new(target: Duration) -> Self {
        let target = target.as_secs_f64();
        Self {
            limit: 1,
            target,
            latency: target,
            changed: None,
            in_flight_before: 0,
            throughput_before: 0.0,
        }
    }

    fn climb(&mut self, in_flight: usize) {
        let throughput = in_flight as f64 / self.latency;
        let follows = (throughput > self.throughput_before) == (in_flight > self.in_flight_before);
        let before = self.limit;
        if follows && self.latency <= self.target {
            self.limit += 1;
        } else if self.limit > 1 {
            self.limit -= 1;
        }
        // The guess that throughput stays as it is, so that the latency goes with the limit.
        self.latency *= self.limit as f64 / before as f64;
        self.throughput_before = throughput;
        self.in_flight_before = in_flight;
    }
}

impl Algorithm for LittleLoadshedder {
    fn limit(&self) -> f64 {
        self.limit as f64
    }

    fn on_sample(&mut self, sample: &Sample) {
        if !counts(sample) {
            return;
        }
        self.latency += WEIGHT * (sample.service_time().as_secs_f64() - self.latency);
        // The call still has its slot.
        let in_flight = (sample.in_flight + 1).min(self.limit);
        let free = self.limit - in_flight;
        let at_limit = free <= (self.limit / 10).max(1);

        let now = sample.finished;
        let changed = *self.changed.get_or_insert(sample.dispatched);
        let since = now.saturating_duration_since(changed).as_secs_f64();
        if at_limit && since > self.latency / WEIGHT / CHANGES {
            self.climb(in_flight);
            self.changed = Some(now);
        }
    }
}
