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
        }
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
