use std::{pin::Pin, task::Context};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::tell::{tell_overload, tell_stall};
use crate::{
    leveler::{
        admission::Admission,
        core::Core,
        link::drained::Drained,
        overload::LOOK,
        panics::contain,
        stall::IDLE_LOOK,
        vitals::{STALL, Vitals},
    },
    stats::Count,
};

/// Looks for facts that an operator should know, about once a second while requests wait or are
/// turned away, and reports them as events.
///
/// The looks have a timer of their own. Other polls of the drain task need not read the clock for
/// them.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    /// Kept while off, to reuse the memory. `None` on a runtime without timers.
    timer: Option<Pin<Box<Sleep>>>,
    /// The time of the next look, if any.
    next: Option<Instant>,
    /// Set if the runtime is known to have no timers. Other polls then look, if it is time.
    lacks_timers: bool,
}

impl Lookout {
    /// Looks if due, and arranges the next look. `waiting` is the number after the dispatch.
    #[inline]
    pub(super) fn poll(
        &mut self,
        core: &Core,
        drained: &mut Drained,
        waiting: usize,
        cx: &mut Context<'_>,
    ) {
        match self.next {
            Some(next) => {
                let is_over = drained.is_busy && drained.stall.is_told();
                if is_over || self.is_elapsed(next) {
                    self.look(core, drained, false, cx);
                }
            }
            None if core.metrics.refusing.is_on() => self.look(core, drained, true, cx),
            // The end of a call wakes the drain task while requests wait. Until then a stall goes
            // on, and has been told.
            None if drained.stall.is_told() && !drained.is_busy && waiting > 0 => {}
            None if waiting > 0 || drained.stall.is_told() => self.look(core, drained, true, cx),
            None => {}
        }
    }

    #[inline]
    fn is_elapsed(&self, next: Instant) -> bool {
        self.timer.as_ref().map_or_else(|| Instant::now() >= next, |timer| timer.is_elapsed())
    }

    #[cold]
    fn look(&mut self, core: &Core, drained: &mut Drained, is_first: bool, cx: &mut Context<'_>) {
        // A model has no clock.
        if cfg!(shuttle) {
            return;
        }
        // Before the counters are read, for a later refusal to be noticed.
        let refuses = core.metrics.refusing.end();
        let vitals = read(core, Instant::now());
        let Drained { overload, stall, .. } = drained;
        if let Some(event) = overload.look(vitals) {
            contain(|| tell_overload(core, event));
        }
        if let Some(event) = stall.look(vitals) {
            contain(|| tell_stall(core, event));
            core.link.set_stalled(stall.is_told());
        }
        let soon = vitals.now + LOOK;
        self.next = if overload.needs_look() || refuses {
            Some(soon)
        } else if let Some(due) = stall.due() {
            Some(soon.max(due))
        } else if stall.is_told() {
            (vitals.queued == 0).then(|| vitals.now + IDLE_LOOK)
        } else {
            is_first.then_some(soon)
        };
        match self.next {
            Some(next) => self.set(next, cx),
            None => overload.rest(),
        }
    }

    /// Wakes the task at `next`. A fixed limit without time limits needs no runtime with timers, so
    /// the panic of a runtime without timers is caught.
    fn set(&mut self, next: Instant, cx: &mut Context<'_>) {
        if self.lacks_timers {
            return;
        }
        let is_over = contain(|| {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            timer.as_mut().reset(next);
            // If the budget of the task were used up, the timer would not keep the waker.
            Pin::new(&mut unconstrained(timer.as_mut())).poll(cx).is_ready()
        });
        match is_over {
            Some(true) => cx.waker().wake_by_ref(),
            Some(false) => {}
            None => (self.timer, self.lacks_timers) = (None, true),
        }
    }
}

/// A stall has to last for this many mean service times, too. With exponential service times and a
/// single slot, 2 % of the calls take longer; with more slots fewer.
const TIMES: u32 = 4;

/// Reads some hundred counters: for once a second.
fn read(core: &Core, now: Instant) -> Vitals {
    let Admission { counters, listeners, occupancy, predictor, .. } = &core.admission;
    let counts = core.counts();
    let refused = counters.all_refused();
    let mean = predictor.service_times.mean().unwrap_or_default();
    Vitals {
        now,
        asked: counters.get(Count::Direct) + counters.get(Count::Queued) + refused.total(),
        ended: counters.ended(),
        rejected: refused.plus(counters.all_removed()).of_queue_load(),
        queued: occupancy.queued(),
        waiting_for_place: listeners.waitlist.longest_wait().0,
        is_all_taken: counts.in_flight() >= core.admission.limit() && !counts.is_paused(),
        patience: STALL.max(mean.saturating_mul(TIMES)),
    }
}
