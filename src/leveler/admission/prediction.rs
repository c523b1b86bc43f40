//! How long calls take.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{class::Priority, queue::Times};

const LEVELS: usize = Priority::ALL.len();

/// Means of the measured service time: of all calls, of each priority, and of those with like deadlines.
///
/// A mean moves by a fiftieth of the difference with each sample (by more at first), so it looks back over
/// some 50 calls. Two threads that record at once may lose one of two samples.
#[derive(Debug)]
pub(crate) struct Estimates {
    origin: Instant,
    all: Mean,
    levels: [Mean; LEVELS],
    /// Whether there has been more than one priority: until then nobody asks for those means, and recording is
    /// on the path of every call.
    by_level: AtomicBool,
    /// By budget, to predict who will be late. These fade while nothing is in flight.
    budgets: [Mean; Budget::COUNT],
    /// When the last call ended, and, by budget, when one was last let through against what was predicted; in
    /// microseconds after `origin`, plus one. The first is zero until there is a budget.
    ended: AtomicU64,
    probed: [AtomicU64; Budget::COUNT],
}

/// How long a caller gave its request: its kind in the upper byte, which is the power of two below it, and in
/// the lower how far it is to the next one.
///
/// Requests with like deadlines are taken to be of one kind. By one mean for all, long ones of another kind
/// would have short ones refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget(u16);

impl Budget {
    const COUNT: usize = 24;

    /// No deadline: nothing is predicted, and nothing learned.
    pub(crate) const NONE: Self = Self(0);

    /// All above half an hour, more or less.
    const LAST: Self = Self((Self::COUNT as u16 - 1) << 8);

    /// The budget of one whose deadline is so far away.
    pub(crate) fn of(left: Duration) -> Self {
        let seconds = left.as_secs().saturating_mul(1_000_000);
        let micros = seconds.saturating_add(u64::from(left.subsec_micros()));
        // The first kind for all below a millisecond.
        let power = (micros / 1000).checked_ilog2();
        let kind = power.map_or(1, |power| power as u16 + 2);
        if kind >= Self::LAST.0 >> 8 {
            return Self::LAST;
        }
        // Whole ones with a millisecond or a power of it as the unit are cut off: they are in the kind.
        let fraction = (micros * 256 / 1000) >> power.unwrap_or(0);
        Self(kind << 8 | fraction as u16 & 0xff)
    }

    /// Whether it is over after such a time, give or take a 256th.
    pub(crate) fn is_over(self, time: Duration) -> bool {
        if self == Self::NONE || self == Self::LAST {
            return false;
        }
        let (kind, fraction) = (self.0 >> 8, u64::from(self.0 & 0xff));
        let parts = if kind == 1 { fraction } else { (256 + fraction) << (kind - 2) };
        time >= Duration::from_micros(parts * 1000 / 256)
    }

    fn index(self) -> usize {
        usize::from(self.0 >> 8)
    }
}

/// Nobody is refused by what fewer samples say.
const ENOUGH: u32 = 8;

/// Against what is predicted one is let through this often in seconds, or each service time if that is longer:
/// were all refused, nothing would ever show that the estimate is wrong.
const PROBE: f32 = 0.1;

impl Estimates {
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            all: Mean::default(),
            levels: Default::default(),
            by_level: AtomicBool::new(false),
            budgets: [const { Mean(AtomicU64::new(0)) }; Budget::COUNT],
            ended: AtomicU64::new(0),
            probed: [const { AtomicU64::new(0) }; Budget::COUNT],
        }
    }

    /// A call has taken so long.
    pub(crate) fn record(&self, priority: Priority, budget: Budget, time: Duration) {
        let nanos = time.as_secs() as f32 * 1e9 + time.subsec_nanos() as f32;
        self.all.record(nanos);
        if priority != Priority::default() && !self.by_level.load(Relaxed) {
            self.by_level.store(true, Relaxed);
        }
        if self.by_level.load(Relaxed) {
            self.levels[priority.index()].record(nanos);
        }
        if budget != Budget::NONE {
            self.budgets[budget.index()].record(nanos);
        }
    }

    /// A call was cut off at this age. What is left of one that has outlived the mean is taken to be the mean
    /// once more, as it is for exponential times: were those that take too long not counted, callers who give
    /// up would make a slow inner look like a fast one.
    pub(crate) fn record_censored(&self, priority: Priority, budget: Budget, age: Duration) {
        if let Some(mean) = self.service_time().filter(|mean| *mean < age) {
            self.record(priority, budget, age + mean);
        }
    }

    /// The last call has ended, and nothing is in flight.
    pub(crate) fn on_idle(&self, budget: Budget, now: Instant) {
        if budget != Budget::NONE || self.ended.load(Relaxed) > 0 {
            self.ended.store(self.micros(now), Relaxed);
        }
    }

    /// The mean service time in nanoseconds.
    pub(crate) fn service_nanos(&self) -> Option<f32> {
        let (nanos, samples) = self.all.load();
        (samples > 0).then_some(nanos)
    }

    /// Mean service time.
    pub(crate) fn service_time(&self) -> Option<Duration> {
        self.all.get()
    }

    /// Mean service time of each priority: what is known of all, where nothing is of that one.
    pub(crate) fn times(&self) -> Times {
        let all = self.all.get();
        if !self.by_level.load(Relaxed) {
            return [all; LEVELS];
        }
        self.levels.each_ref().map(|level| level.get().or(all))
    }

    /// How many seconds a call with such a budget will take, if enough is known to turn somebody away for it.
    pub(crate) fn predicted(&self, budget: Budget) -> Option<f32> {
        let (nanos, samples) = self.budgets[budget.index()].load();
        (samples >= ENOUGH).then_some(nanos / 1e9)
    }

    /// Whether one may go on for whom it is predicted to be too late. What it then shows weighs more than what
    /// was known.
    pub(crate) fn may_probe(&self, budget: Budget, predicted: f32, now: Instant) -> bool {
        let probed = &self.probed[budget.index()];
        let (last, now) = (probed.load(Relaxed), self.micros(now));
        let apart = (predicted.max(PROBE) * 1e6) as u64;
        let may = now.saturating_sub(last) >= apart
            && probed.compare_exchange(last, now, Relaxed, Relaxed).is_ok();
        if may {
            self.budgets[budget.index()].loosen_if_rare();
        }
        may
    }

    /// Nothing is in flight: what was measured before fades, by half for each service time that passes.
    pub(crate) fn fade(&self, now: Instant) {
        let ended = self.ended.load(Relaxed);
        let idle = Duration::from_micros(self.micros(now).saturating_sub(ended));
        if ended > 0
            && self.ended.compare_exchange(ended, self.micros(now), Relaxed, Relaxed).is_ok()
        {
            self.budgets.iter().for_each(|mean| mean.fade(idle));
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros()) + 1
    }
}

/// A moving mean in one word: nanoseconds as the bits of an `f32`, and the number of samples.
#[derive(Debug, Default)]
struct Mean(AtomicU64);

/// A new sample weighs at least a fiftieth.
const SLOWEST: u32 = 50;

impl Mean {
    fn load(&self) -> (f32, u32) {
        let word = self.0.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }

    fn store(&self, nanos: f32, samples: u32) {
        self.0.store(u64::from(nanos.to_bits()) << 32 | u64::from(samples), Relaxed);
    }

    fn record(&self, nanos: f32) {
        let (known, samples) = self.load();
        let samples = samples.saturating_add(1);
        self.store(known + (nanos - known) / samples.min(SLOWEST) as f32, samples);
    }

    fn get(&self) -> Option<Duration> {
        let (nanos, samples) = self.load();
        (samples > 0).then(|| Duration::from_nanos(nanos as u64))
    }

    /// Lets the next samples weigh more.
    fn loosen(&self) {
        let (nanos, samples) = self.load();
        self.store(nanos, samples.min(ENOUGH));
    }

    /// The same, if there were but few since this was last called.
    fn loosen_if_rare(&self) {
        let (nanos, samples) = self.load();
        let rare = samples < SLOWEST + ENOUGH;
        self.store(nanos, samples.min(if rare { ENOUGH } else { SLOWEST }));
    }

    fn fade(&self, idle: Duration) {
        let (nanos, samples) = self.load();
        if samples > 0 && nanos > 0.0 {
            let halvings = idle.as_secs_f32() * 1e9 / nanos;
            self.store(nanos * (-halvings).exp2(), samples);
            if halvings >= 1.0 {
                self.loosen();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_mean_follows_what_is_measured() {
        let mean = Mean::default();
        (1..=9).for_each(|ms| mean.record(ms as f32 * 1e6));
        let known = mean.get().expect("nine samples");
        assert!(known.abs_diff(MS * 5) < MS / 100, "at first a plain mean: {known:?}");
        (0..200).for_each(|_| mean.record(50e6));
        let known = mean.get().expect("more");
        assert!(known.abs_diff(MS * 50) < MS, "{known:?}");
    }

    #[test]
    fn what_is_foreseen_needs_samples_and_fades_while_nothing_runs() {
        let start = Instant::now();
        let estimates = Estimates::new(start);
        let budget = Budget::of(MS * 200);
        let predicted = || estimates.predicted(budget).map(Duration::from_secs_f32);
        let record = || estimates.record(Priority::Normal, budget, MS * 100);
        (0..7).for_each(|_| record());
        assert_eq!(predicted(), None);
        record();
        estimates.on_idle(budget, start);
        assert!(predicted().is_some_and(|time| time.abs_diff(MS * 100) < MS));
        estimates.fade(start + MS * 300);
        assert!(predicted().is_some_and(|time| time.abs_diff(MS * 100 / 8) < MS));
        let kept = estimates.service_time().map(|time| time.as_millis());
        assert_eq!(kept, Some(100), "what paces and measures does not fade");
    }

    #[test]
    fn requests_with_other_deadlines_are_of_another_kind() {
        let budget = |ms: u32| Budget::of(MS * ms);
        assert_eq!(budget(130).index(), budget(250).index());
        assert_eq!(budget(0).index(), 1);
        assert_ne!(budget(100).index(), budget(200).index());
        assert_eq!(Budget::of(Duration::MAX).index(), Budget::COUNT - 1);
        assert_ne!(budget(0), Budget::NONE);
    }

    #[test]
    fn a_budget_is_over_when_its_deadline_has_come() {
        for micros in [1, 999, 1000, 7300, 100_000, 250_000, 999_999, 30_000_000, 1_800_000_000] {
            let left = Duration::from_micros(micros);
            let budget = Budget::of(left);
            assert!(budget.is_over(left), "{left:?}");
            assert!(!budget.is_over(left.mul_f64(0.99)) || micros < 1000, "{left:?}");
        }
        assert!(!Budget::of(MS * 100).is_over(MS * 100 - MS / 1000), "most are exact");
        for never in [Budget::NONE, Budget::of(Duration::MAX)] {
            assert!(!never.is_over(Duration::from_secs(1 << 40)));
        }
    }

    #[test]
    fn one_may_go_against_it_now_and_then() {
        let start = Instant::now();
        let estimates = Estimates::new(start);
        let may = |ms| estimates.may_probe(Budget::of(MS), 0.3, start + MS * ms);
        assert_eq!([300, 310, 599, 600].map(may), [true, false, false, true]);
    }

    #[test]
    fn who_goes_against_it_often_does_not_keep_others_from_it() {
        let (start, mut often) = (Instant::now(), 0);
        let estimates = Estimates::new(start);
        for ms in (0..60_000).step_by(50) {
            let now = start + MS * ms;
            estimates.may_probe(Budget::of(MS * 100), 0.2, now);
            often += u32::from(estimates.may_probe(Budget::of(MS * 1000), 5.0, now));
        }
        assert_eq!(often, 11, "in a minute, every five seconds");
    }
}
