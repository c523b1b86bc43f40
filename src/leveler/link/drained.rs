use std::time::Duration;

use tokio::time::Instant;

use crate::{
    leveler::{
        admission::shedding::window::Window,
        edge::Edge,
        link::nested_calls::NestedCalls,
        overload::Overload,
        pace::{Pace, Pacing},
        stall::Stall,
    },
    queue::ChargeId,
};

/// The state of the drain task from poll to poll, on whichever runtime. Timers are not part of the
/// state, since a timer belongs to a runtime.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) pace: Pace,
    /// Counts dispatches, for shedding by priority.
    pub(crate) window: Window,
    pub(crate) limit_report: LimitReport,
    pub(crate) overload: Overload,
    pub(crate) stall: Stall,
    /// The shedding of lower priorities, as far as told.
    pub(crate) sheds: Edge,
    /// Empty between two polls. Kept to reuse the memory.
    pub(crate) settlements: Vec<(ChargeId, Duration)>,
    /// The nested calls that wait for the pace, or for the next turn.
    pub(crate) nested: NestedCalls,
    /// Set if the last turn has dispatched or removed anything.
    pub(crate) is_busy: bool,
    /// Set if a request with a limit to its wait was left in the queue by the last turn.
    pub(crate) has_late: bool,
    /// The last reading of the clock.
    pub(crate) now: Instant,
    /// How often dispatches read the clock.
    pub(crate) readings: Readings,
}

impl Drained {
    pub(crate) fn new(pacing: Pacing) -> Self {
        let now = Instant::now();
        Self {
            pace: Pace::new(pacing, now),
            window: Window::new(now),
            limit_report: LimitReport::default(),
            overload: Overload::default(),
            stall: Stall::default(),
            sheds: Edge::default(),
            settlements: Vec::new(),
            nested: NestedCalls::default(),
            is_busy: false,
            has_late: false,
            now,
            readings: Readings::new(),
        }
    }
}

/// Spares readings of the clock: a reading holds for several dispatches in a row, while all of them
/// take next to no time. A reading of the clock takes a tenth of the time of a dispatch.
#[derive(Debug)]
pub(crate) struct Readings {
    /// The number of dispatches for which a reading holds.
    row: u32,
    /// The number of dispatches since the last reading in this turn; 0 before the first.
    since: u32,
    /// The number of turns until a row has to prove short again.
    trust: u32,
}

impl Readings {
    /// The longest time for which a reading holds, in nanoseconds. As much as the wait of a request
    /// may be longer than measured, and its service time shorter. Twice the finest bucket of a
    /// histogram.
    const MAX_AGE: u128 = 2000;
    const MAX_ROW: u32 = 8;
    /// The number of turns after which a row begins anew, unless proven short.
    const TRUST: u32 = 8;

    const fn new() -> Self {
        Self { row: 1, since: 0, trust: 0 }
    }

    /// Begins a turn: the next dispatch reads the clock.
    pub(crate) fn begin(&mut self) {
        self.since = 0;
        self.trust = self.trust.saturating_sub(1);
        if self.trust == 0 {
            self.row = 1;
        }
    }

    /// Returns whether the next dispatch needs no reading.
    #[inline]
    pub(crate) fn spares(&mut self) -> bool {
        if self.since == 0 || self.since >= self.row {
            return false;
        }
        self.since += 1;
        true
    }

    /// Takes note of a reading at `now`, with the reading `before`.
    #[inline]
    pub(crate) fn on_read(&mut self, before: Instant, now: Instant) {
        if self.since > 0 {
            let took = now.saturating_duration_since(before).as_nanos();
            if took > Self::MAX_AGE {
                self.row = 1;
            } else {
                self.trust = Self::TRUST;
                if took <= Self::MAX_AGE / 2 && self.since == self.row {
                    self.row = (self.row * 2).min(Self::MAX_ROW);
                }
            }
        }
        self.since = 1;
    }
}

/// Tells when an adaptive limit begins to hold requests back for more than a moment, and when the
/// limit ceases to.
#[derive(Debug, Default)]
pub(crate) struct LimitReport {
    /// The recent share of ticks with requests waiting for slots.
    share: f64,
    is_on: bool,
    /// The number of ticks without a report of a begin.
    quiet: u16,
}

/// A change to report to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitChange {
    Holds,
    HoldsNoMore,
}

impl LimitReport {
    /// The share of ticks above which the begin is logged. Below `OFF`, the end is logged. Short
    /// bursts are not logged, and a queue empty now and then is no end. Either change takes about a
    /// second.
    const ON: f64 = 0.9;
    const OFF: f64 = 0.1;

    /// The weight of a tick. Ticks of half a second ago weigh a third.
    const WEIGHT: f64 = 0.02;

    /// The least number of ticks between two begins: ten seconds. Longer while the leveler is idle,
    /// since its ticks pause.
    const APART: u16 = 1000;

    /// Records, after a tick and a dispatch, whether requests still wait for slots alone.
    pub(crate) fn on_tick(&mut self, waits_for_slots: bool) -> Option<LimitChange> {
        let now = f64::from(u8::from(waits_for_slots));
        self.share += Self::WEIGHT * (now - self.share);
        self.quiet = self.quiet.saturating_sub(1);
        if !self.is_on && self.share > Self::ON && self.quiet == 0 {
            (self.is_on, self.quiet) = (true, Self::APART);
            return Some(LimitChange::Holds);
        }
        if self.share < Self::OFF { self.end() } else { None }
    }

    /// Records an idle leveler.
    pub(crate) fn on_idle(&mut self) -> Option<LimitChange> {
        self.share = 0.0;
        self.end()
    }

    fn end(&mut self) -> Option<LimitChange> {
        std::mem::take(&mut self.is_on).then_some(LimitChange::HoldsNoMore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dispatches so many in a turn, each taking `each`, and returns the number of readings.
    fn turn(readings: &mut Readings, clock: &mut Instant, count: u32, each: Duration) -> u32 {
        let (mut last, mut read) = (*clock, 0);
        readings.begin();
        for _ in 0..count {
            if !readings.spares() {
                readings.on_read(last, *clock);
                (last, read) = (*clock, read + 1);
            }
            *clock += each;
        }
        read
    }

    #[test]
    fn dispatches_that_take_no_time_share_a_reading() {
        let (mut readings, mut clock) = (Readings::new(), Instant::now());
        let short = Duration::from_nanos(300);
        assert_eq!(turn(&mut readings, &mut clock, 1, short), 1, "nothing is known");
        turn(&mut readings, &mut clock, 16, short);
        assert_eq!(turn(&mut readings, &mut clock, 16, short), 4);
        turn(&mut readings, &mut clock, 16, Duration::ZERO);
        assert_eq!(turn(&mut readings, &mut clock, 16, Duration::ZERO), 2, "a paused clock");
    }

    #[test]
    fn no_reading_is_old_for_longer_than_a_row_and_a_few_turns() {
        let (mut readings, mut clock) = (Readings::new(), Instant::now());
        turn(&mut readings, &mut clock, 100, Duration::ZERO);
        let long = Duration::from_millis(1);
        assert_eq!(turn(&mut readings, &mut clock, 16, long), 1 + 8, "each after the first row");
        turn(&mut readings, &mut clock, 100, Duration::ZERO);
        let unproven = (0..100).take_while(|_| turn(&mut readings, &mut clock, 4, long) == 1);
        assert!(unproven.count() < Readings::TRUST as usize);
        assert_eq!(turn(&mut readings, &mut clock, 4, long), 4);
    }
}
