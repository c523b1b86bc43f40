use std::time::Duration;

use tokio::time::Instant;

use super::mean::{MEMORY, Mean};
use crate::{
    leveler::budget::Budget,
    sync::figure::{AtomicU64, Ordering::Relaxed},
};

/// Means of the service time by budget, for predicting missed deadlines.
///
/// While nothing is in flight, the means fade. Now and then a request may run against the
/// prediction, as a probe: if all were refused, a wrong mean would never be noticed.
#[derive(Debug)]
pub(super) struct BudgetTimes {
    origin: Instant,
    means: [Mean; Budget::KINDS],
    /// The instant from which the means fade: the end of the last call, or the last fading. In
    /// microseconds after `origin`, plus 1. Zero until a call has a budget.
    ended: AtomicU64,
    /// By kind: the time of the last probe, in microseconds after `origin`, plus 1.
    probed: [AtomicU64; Budget::KINDS],
}

/// The number of samples from which a mean refuses requests.
const MIN_SAMPLES: u32 = 8;

/// The least time between two probes of a kind, in seconds; or the predicted time, if longer. More
/// probes would find an error sooner, and miss more deadlines.
const PROBE_INTERVAL: f32 = 0.1;

impl BudgetTimes {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            means: [const { Mean::new() }; Budget::KINDS],
            ended: AtomicU64::new(0),
            probed: [const { AtomicU64::new(0) }; Budget::KINDS],
        }
    }

    pub(super) fn record(&self, budget: Budget, nanos: f32) {
        if budget != Budget::NONE {
            self.means[budget.kind()].record(nanos);
        }
    }

    /// Takes note of the end of a call after which nothing is in flight.
    pub(super) fn on_idle(&self, budget: Budget, now: Instant) {
        if budget != Budget::NONE || self.ended.load(Relaxed) > 0 {
            self.ended.store(self.micros(now), Relaxed);
        }
    }

    /// Returns the predicted service time for a budget, in seconds, if enough samples are known.
    pub(super) fn predicted(&self, budget: Budget) -> Option<f32> {
        let (nanos, samples) = self.means[budget.kind()].load();
        (samples >= MIN_SAMPLES).then_some(nanos / 1e9)
    }

    /// Returns whether a request that is predicted to miss its deadline may run as a probe. If few
    /// samples came since the last probe, the next weigh more.
    pub(super) fn may_probe(&self, budget: Budget, predicted: f32, now: Instant) -> bool {
        let probed = &self.probed[budget.kind()];
        let (last, now) = (probed.load(Relaxed), self.micros(now));
        let apart = (predicted.max(PROBE_INTERVAL) * 1e6) as u64;
        let may = now.saturating_sub(last) >= apart
            && probed.compare_exchange(last, now, Relaxed, Relaxed).is_ok();
        if may {
            loosen_if_rare(&self.means[budget.kind()]);
        }
        may
    }

    /// Fades the means by half for each service time passed with nothing in flight.
    pub(super) fn fade(&self, now: Instant) {
        let ended = self.ended.load(Relaxed);
        let idle = Duration::from_micros(self.micros(now).saturating_sub(ended));
        if ended > 0
            && self.ended.compare_exchange(ended, self.micros(now), Relaxed, Relaxed).is_ok()
        {
            self.means.iter().for_each(|mean| fade(mean, idle));
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros()) + 1
    }
}

/// Raises the weight of the next sample to about an eighth, if few came since the last probe.
fn loosen_if_rare(mean: &Mean) {
    let (nanos, samples) = mean.load();
    let rare = samples < MEMORY + MIN_SAMPLES;
    mean.store(nanos, samples.min(if rare { MIN_SAMPLES } else { MEMORY }));
}

fn fade(mean: &Mean, idle: Duration) {
    let (nanos, samples) = mean.load();
    if samples > 0 && nanos > 0.0 {
        let halvings = idle.as_secs_f32() * 1e9 / nanos;
        let samples = if halvings >= 1.0 { samples.min(MIN_SAMPLES) } else { samples };
        mean.store(nanos * (-halvings).exp2(), samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_may_go_against_it_now_and_then() {
        let start = Instant::now();
        let times = BudgetTimes::new(start);
        let may = |ms| times.may_probe(Budget::of(MS), 0.3, start + MS * ms);
        assert_eq!([300, 310, 599, 600].map(may), [true, false, false, true]);
    }

    #[test]
    fn who_goes_against_it_often_does_not_keep_others_from_it() {
        let (start, mut often) = (Instant::now(), 0);
        let times = BudgetTimes::new(start);
        for ms in (0..60_000).step_by(50) {
            let now = start + MS * ms;
            times.may_probe(Budget::of(MS * 100), 0.2, now);
            often += u32::from(times.may_probe(Budget::of(MS * 1000), 5.0, now));
        }
        assert_eq!(often, 11, "in a minute, every five seconds");
    }
}
