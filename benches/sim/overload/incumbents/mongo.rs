use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Load, Sample};

use super::counts;

// The server parameters `throughputProbing…`, which hold for one pool of tickets. MongoDB has two,
// for reads and writes; ours is one, for calls of one kind.
/// `InitialConcurrency` is by default the number of cores, for each pool. This is a server with 20.
const START: f64 = 20.0;
/// `MinConcurrency`.
const MIN_LIMIT: f64 = 4.0;
/// `MaxConcurrency`.
const MAX_LIMIT: f64 = 128.0;
/// `StepMultiple`: which share more or less a probe lets in.
const STEP: f64 = 0.1;
/// `ConcurrencyMovingAverageWeight`: how far towards a probe that did better the stable limit goes.
const WEIGHT: f64 = 0.2;
/// `ConcurrencyAdjustmentIntervalMillis`.
const INTERVAL: Duration = Duration::from_millis(100);

/// Tries a tenth more, or less where not all is used, for 100 ms, and stays near it if that did
/// better.
#[derive(Debug)]
pub(super) struct Mongo {
    limit: f64,
    stable_limit: f64,
    stable_throughput: f64,
    probing: bool,
    most_in_flight: usize,
    /// None until no more run than the limit lets: the original waits for the tickets when it takes
    /// some away, and measures after that.
    measuring: Option<Measuring>,
}

#[derive(Clone, Copy, Debug)]
struct Measuring {
    since: Instant,
    finished: u32,
}

impl Mongo {
    pub(super) fn new() -> Self {
        Self {
            limit: START,
            stable_limit: START,
            stable_throughput: 0.0,
            probing: false,
            most_in_flight: 0,
            measuring: None,
        }
    }

    fn run(&mut self, now: Instant, in_flight: usize) {
        if let Some(Measuring { since, finished }) = self.measuring {
            let elapsed = now.saturating_duration_since(since);
            if elapsed < INTERVAL {
                return;
            }
            let throughput = f64::from(finished) / elapsed.as_secs_f64();
            if self.probing {
                self.end_probe(throughput);
            } else {
                self.begin_probe(throughput);
            }
        }
        let settled = in_flight as f64 <= self.limit;
        self.measuring = settled.then_some(Measuring { since: now, finished: 0 });
    }

    fn begin_probe(&mut self, throughput: f64) {
        self.stable_throughput = throughput;
        let most = std::mem::take(&mut self.most_in_flight) as f64;
        let other = if most >= self.limit && self.limit < MAX_LIMIT {
            (self.stable_limit * (1.0 + STEP)).round().max(self.limit + 1.0)
        } else if most > MIN_LIMIT {
            (self.stable_limit * (1.0 - STEP)).round().min(self.limit - 1.0)
        } else {
            return;
        };
        self.limit = other.clamp(MIN_LIMIT, MAX_LIMIT);
        self.probing = true;
    }

    fn end_probe(&mut self, throughput: f64) {
        if throughput > self.stable_throughput {
            self.stable_limit += WEIGHT * (self.limit - self.stable_limit);
        }
        self.limit = self.stable_limit.round().clamp(MIN_LIMIT, MAX_LIMIT);
        self.probing = false;
    }
}

impl Algorithm for Mongo {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        // Between two ends there are never more in flight than just before the second.
        self.most_in_flight = self.most_in_flight.max(sample.in_flight + 1);
        if let Some(measuring) = &mut self.measuring {
            measuring.finished += u32::from(counts(sample));
        }
        self.run(sample.finished, sample.in_flight);
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        self.most_in_flight = self.most_in_flight.max(load.in_flight);
        self.run(now, load.in_flight);
    }
}
