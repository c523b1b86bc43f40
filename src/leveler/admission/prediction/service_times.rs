use std::time::Duration;

use super::mean::Mean;
use crate::{
    class::Priority,
    queue::Times,
    sync::figure::{AtomicU8, Ordering::Relaxed},
};

const LEVELS: usize = Priority::ALL.len();

/// Means of the service time, and of the time per slot: of all calls, and of each priority.
///
/// A call has its slot for its service time, or until its response body has ended. Most levelers
/// have neither held slots nor priorities, and every call records a time. The second and third mean
/// therefore begin with the first call that needs them.
#[derive(Debug)]
pub(crate) struct ServiceTimes {
    service: Mean,
    /// The time per slot. Equal to the service time until [`HELD`] is set.
    slot: Mean,
    /// The time per slot, by priority. Read once [`PRIORITIES`] is set.
    levels: [Mean; LEVELS],
    /// [`HELD`] and [`PRIORITIES`].
    seen: AtomicU8,
}

/// Set once a slot was held beyond the end of its call.
const HELD: u8 = 1;
/// Set once a call of another priority than the default has ended.
const PRIORITIES: u8 = 2;

impl ServiceTimes {
    pub(super) fn new() -> Self {
        Self {
            service: Mean::new(),
            slot: Mean::new(),
            levels: [const { Mean::new() }; LEVELS],
            seen: AtomicU8::new(0),
        }
    }

    /// Records a call of `nanos` nanoseconds. `held` is the time for which the call had its slot,
    /// if longer.
    #[inline]
    pub(super) fn record(&self, priority: Priority, nanos: f32, held: Option<f32>) {
        let seen = self.seen.load(Relaxed);
        let is_plain = priority == Priority::default() && held.is_none();
        if seen != 0 || !is_plain {
            self.record_slot(priority, nanos, held, seen);
        }
        self.service.sample(nanos);
    }

    /// Records the time per slot. Called before the service time is recorded.
    #[inline(never)]
    fn record_slot(&self, priority: Priority, nanos: f32, held: Option<f32>, mut seen: u8) {
        if held.is_some() && seen & HELD == 0 {
            // Until now each slot was free at the end of its call.
            let (known, samples) = self.service.load();
            self.slot.store(known, samples);
            seen |= self.seen.fetch_or(HELD, Relaxed) | HELD;
        }
        if priority != Priority::default() && seen & PRIORITIES == 0 {
            seen |= self.seen.fetch_or(PRIORITIES, Relaxed) | PRIORITIES;
        }
        let nanos = held.unwrap_or(nanos);
        if seen & HELD != 0 {
            self.slot.record(nanos);
        }
        if seen & PRIORITIES != 0 {
            self.levels[priority.index()].record(nanos);
        }
    }

    fn slot(&self) -> &Mean {
        if self.seen.load(Relaxed) & HELD != 0 { &self.slot } else { &self.service }
    }

    /// Returns the mean time per slot of all calls, in nanoseconds.
    pub(super) fn slot_nanos(&self) -> Option<f32> {
        let (nanos, samples) = self.slot().load();
        (samples > 0).then_some(nanos)
    }

    /// Returns the mean service time of all calls.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.service.get()
    }
}

/// The mean time per slot of each priority, or of all calls for a priority without samples.
impl Times for ServiceTimes {
    fn of(&self, level: usize) -> Option<Duration> {
        let known = self.levels.get(level).and_then(Mean::get);
        known.or_else(|| self.slot().get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(nanos: Option<f32>) -> f32 {
        nanos.expect("recorded") / 1e9
    }

    #[test]
    fn a_slot_takes_as_long_as_its_call_unless_it_is_held() {
        let times = ServiceTimes::new();
        times.record(Priority::Normal, 1e9, None);
        assert_eq!(seconds(times.slot_nanos()), 1.0);
        times.record(Priority::Normal, 1e9, Some(4e9));
        assert_eq!(seconds(times.slot_nanos()), 2.5);
        assert_eq!(times.mean(), Some(Duration::from_secs(1)), "the service time is apart");
        times.record(Priority::Normal, 1e9, None);
        assert_eq!(seconds(times.slot_nanos()), 2.0);
    }

    #[test]
    fn the_first_held_slot_counts_in_full() {
        let times = ServiceTimes::new();
        times.record(Priority::Normal, 0.0, Some(5e8));
        assert_eq!(seconds(times.slot_nanos()), 0.5);
        assert_eq!(times.of(0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn priorities_are_charged_by_the_time_per_slot() {
        let times = ServiceTimes::new();
        times.record(Priority::High, 1e6, Some(2e9));
        times.record(Priority::Low, 1e6, None);
        let charged = |priority: Priority| times.of(priority.index());
        assert_eq!(charged(Priority::High), Some(Duration::from_secs(2)));
        assert_eq!(charged(Priority::Low), Some(Duration::from_millis(1)));
    }
}
