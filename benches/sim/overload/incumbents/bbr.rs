use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Load, Sample};

use super::counts;

// The options of `NewLimiter` in `bbr.go`: a window of 10 s in 100 buckets.
const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 100;
const BUCKETS_PER_SECOND: f64 = 10.0;
/// The limit while nothing has been measured: none to speak of, as in the originals while their
/// processor has time.
const UNLIMITED: f64 = 1000.0;

/// The highest throughput of a bucket times the lowest mean latency of a bucket.
///
/// Without the gate of the originals, which limit only while their own processor is busy: a client
/// does not know the processor of its server.
#[derive(Debug)]
pub(super) struct Bbr {
    limit: f64,
    bucket: Bucket,
    /// When the bucket began.
    since: Option<Instant>,
    /// The last of those that are over; the current one is not looked at.
    past: VecDeque<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    calls: u32,
    /// Whole milliseconds of each call, rounded down.
    latencies: u128,
}

impl Bucket {
    fn mean_latency(&self) -> Option<f64> {
        (self.calls > 0).then(|| self.latencies as f64 / f64::from(self.calls))
    }
}

impl Bbr {
    pub(super) fn new() -> Self {
        let past = VecDeque::with_capacity(BUCKETS);
        Self { limit: UNLIMITED, bucket: Bucket::default(), since: None, past }
    }

    fn turn(&mut self, now: Instant) {
        let mut since = *self.since.get_or_insert(now);
        if now < since + BUCKET {
            return;
        }
        while now >= since + BUCKET {
            if self.past.len() == BUCKETS - 1 {
                self.past.pop_front();
            }
            self.past.push_back(std::mem::take(&mut self.bucket));
            since += BUCKET;
        }
        self.since = Some(since);
        self.limit = limit_from(&self.past);
    }
}

fn limit_from(past: &VecDeque<Bucket>) -> f64 {
    let most_calls = past.iter().map(|bucket| bucket.calls).max().unwrap_or(0);
    let Some(lowest_latency) = past.iter().filter_map(Bucket::mean_latency).min_by(f64::total_cmp)
    else {
        return UNLIMITED;
    };
    let latency = lowest_latency.ceil().max(1.0) / 1000.0;
    let product = f64::from(most_calls) * BUCKETS_PER_SECOND * latency;
    // Refused is what finds more than that in flight, and more than one: so one more gets in.
    product.floor().max(1.0) + 1.0
}

impl Algorithm for Bbr {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.turn(sample.finished);
        if counts(sample) {
            self.bucket.calls += 1;
            self.bucket.latencies += sample.service_time().as_millis();
        }
    }

    fn on_tick(&mut self, now: Instant, _load: &Load) {
        self.turn(now);
    }
}
