use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Sample};

use super::{counts, dropped};

/// `initial_concurrency`.
const START: usize = 1;
/// `max_concurrency_limit`.
const MAX_LIMIT: usize = 200;
/// `decrease_ratio`. The design document has 0.5.
const DECREASE: f64 = 0.9;
/// `ewma_alpha`: the weight of the last interval in what is usual.
const ALPHA: f64 = 0.4;
/// `rtt_deviation_scale`: how many standard deviations are still usual.
const DEVIATIONS: f64 = 2.5;

/// One more per interval of one mean latency as long as that does not grow, a tenth less when it
/// does.
#[derive(Debug)]
pub(super) struct VectorArc {
    limit: usize,
    usual: Option<Usual>,
    next_update: Option<Instant>,
    interval: Interval,
}

/// Moving mean and variance of the mean latencies of intervals, in seconds.
#[derive(Clone, Copy, Debug)]
struct Usual {
    mean: f64,
    variance: f64,
}

#[derive(Debug, Default)]
struct Interval {
    latencies: f64,
    calls: u32,
    dropped: bool,
    limit_reached: bool,
}

impl VectorArc {
    pub(super) fn new() -> Self {
        Self { limit: START, usual: None, next_update: None, interval: Interval::default() }
    }

    fn adjust(&mut self, usual: Usual) {
        let Interval { dropped, limit_reached, .. } = self.interval;
        let mean = self.interval.mean();
        let quick = mean.is_some_and(|mean| mean <= usual.mean);
        let deviation = usual.variance.sqrt() * DEVIATIONS;
        let slow = mean.unwrap_or(0.0) >= usual.mean + deviation;
        if self.limit < MAX_LIMIT && limit_reached && !dropped && quick {
            self.limit += 1;
        } else if dropped || slow {
            self.limit = ((self.limit as f64 * DECREASE) as usize).max(1);
        }
    }

    fn expect(&mut self, usual: Usual, now: Instant) {
        self.usual = Some(usual);
        self.next_update = Some(now + Duration::from_secs_f64(usual.mean));
    }
}

impl Interval {
    fn add(&mut self, sample: &Sample) {
        // The original looks at each dispatch whether it takes the last slot.
        self.limit_reached |= sample.limit_reached;
        if dropped(sample) {
            self.dropped = true;
        } else {
            self.latencies += sample.service_time().as_secs_f64();
            self.calls += 1;
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.latencies / f64::from(self.calls))
    }
}

impl Usual {
    fn add(self, mean: f64) -> Self {
        let difference = mean - self.mean;
        let increment = ALPHA * difference;
        Self {
            mean: self.mean + increment,
            variance: (1.0 - ALPHA) * (self.variance + difference * increment),
        }
    }
}

impl Algorithm for VectorArc {
    fn limit(&self) -> f64 {
        self.limit as f64
    }

    fn on_sample(&mut self, sample: &Sample) {
        if !counts(sample) {
            return;
        }
        self.interval.add(sample);
        let now = sample.finished;
        let mean = self.interval.mean();
        match self.usual {
            // What has been seen so far stays part of the interval that begins.
            None => {
                if let Some(mean) = mean {
                    self.expect(Usual { mean, variance: 0.0 }, now);
                }
            }
            Some(usual) => {
                if self.next_update.is_some_and(|next| now >= next) {
                    self.adjust(usual);
                    self.expect(mean.map_or(usual, |mean| usual.add(mean)), now);
                    self.interval = Interval::default();
                }
            }
        }
    }
}
