use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Load, Sample};

use super::{SplitMix64, counts, quantile};

/// The latency of how many calls, run almost alone, make the minimum (`request_count`).
const MIN_RTT_CALLS: usize = 50;
/// The limit meanwhile, and the lowest ever (`min_concurrency`).
const MIN_LIMIT: f64 = 3.0;
/// `max_concurrency_limit`.
const MAX_LIMIT: f64 = 1000.0;
/// How often the minimum is measured again (`interval`), without a default; that of the
/// documentation.
const MIN_RTT_INTERVAL: Duration = Duration::from_secs(60);
/// By up to which share that is put off (`jitter`): the documentation's, less than the default of
/// 15 %.
const JITTER: f64 = 0.1;
/// `concurrency_update_interval`, without a default; that of the documentation.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// `sample_aggregate_percentile`: the documentation's. The default is the median.
const PERCENTILE: f64 = 0.9;
/// How much above the minimum a latency is still fine (`buffer`).
const BUFFER: f64 = 0.25;
/// After how many updates in a row that leave the limit at its lowest the minimum is in doubt.
const DOUBTFUL: u32 = 5;

/// The limit follows the ratio of the latency without load to that of now.
///
/// The former is measured: once a minute the limit is pinned to 3 until 50 calls have ended.
#[derive(Debug)]
pub(super) struct Envoy {
    limit: f64,
    phase: Phase,
    /// Calls dispatched before that say nothing about the minimum and what came after it.
    epoch: Option<Instant>,
    /// In whole microseconds, as the original keeps them.
    latencies: Vec<f64>,
    updates_at_lowest: u32,
    random: SplitMix64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    MeasuringMinRtt { limit_after: f64 },
    Sampling { min_rtt: f64, next_update: Instant, next_min_rtt: Instant },
}

impl Envoy {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            limit: MIN_LIMIT,
            phase: Phase::MeasuringMinRtt { limit_after: MIN_LIMIT },
            epoch: None,
            latencies: Vec::new(),
            updates_at_lowest: 0,
            random: SplitMix64(seed),
        }
    }

    fn run_timers(&mut self, now: Instant) {
        let Phase::Sampling { min_rtt, next_update, next_min_rtt } = &mut self.phase else {
            return;
        };
        if now >= *next_min_rtt {
            self.measure_min_rtt(now);
        } else if now >= *next_update {
            *next_update = now + UPDATE_INTERVAL;
            let min_rtt = *min_rtt;
            self.update(min_rtt, now);
        }
    }

    fn measure_min_rtt(&mut self, now: Instant) {
        self.phase = Phase::MeasuringMinRtt { limit_after: self.limit };
        self.epoch = Some(now);
        self.limit = MIN_LIMIT;
        self.latencies.clear();
        self.updates_at_lowest = 0;
    }

    fn end_min_rtt(&mut self, limit_after: f64, now: Instant) {
        let Some(min_rtt) = self.take_percentile() else { return };
        self.limit = limit_after;
        self.phase = Phase::Sampling {
            min_rtt,
            next_update: now + UPDATE_INTERVAL,
            next_min_rtt: now + MIN_RTT_INTERVAL.mul_f64(1.0 + JITTER * self.random.unit()),
        };
    }

    fn update(&mut self, min_rtt: f64, now: Instant) {
        let Some(rtt) = self.take_percentile() else { return };
        let gradient = (min_rtt * (1.0 + BUFFER) / rtt).clamp(0.5, 2.0);
        let limit = self.limit * gradient;
        let headroom = limit.sqrt();
        let limit = (limit + headroom).floor().clamp(MIN_LIMIT, MAX_LIMIT);
        if self.limit == MIN_LIMIT && limit == MIN_LIMIT {
            self.updates_at_lowest += 1;
        } else {
            self.updates_at_lowest = 0;
        }
        self.limit = limit;
        if self.updates_at_lowest >= DOUBTFUL {
            self.measure_min_rtt(now);
        }
    }

    fn take_percentile(&mut self) -> Option<f64> {
        let value = quantile(&mut self.latencies, PERCENTILE);
        self.latencies.clear();
        value
    }
}

impl Algorithm for Envoy {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        let now = sample.finished;
        self.run_timers(now);
        if !counts(sample) || self.epoch.is_some_and(|epoch| sample.dispatched < epoch) {
            return;
        }
        self.latencies.push(sample.service_time().as_micros().max(1) as f64);
        if let Phase::MeasuringMinRtt { limit_after } = self.phase {
            if self.latencies.len() >= MIN_RTT_CALLS {
                self.end_min_rtt(limit_after, now);
            }
        }
    }

    fn on_tick(&mut self, now: Instant, _load: &Load) {
        self.run_timers(now);
    }
}
