use std::{task::Context, time::Duration};

use tokio::time::Instant;

use super::{
    BATCH,
    attempt::{By, Tried, attempt},
    runner::spawn_queued,
};
use crate::{
    leveler::{
        admission::on_turn::OnTurn,
        core::Core,
        link::{backlog::Queued, drained::Drained, job::Dispatched},
        panics::contain,
    },
    queue::{Charge, Next},
    rng::draw,
};

/// The reason for the end of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No slot is free, too few are free for the next request, or dispatch is paused.
    NoSlot,
    /// Nothing waits, or nothing that may go: inner services are unready, and flows at their limit.
    NoRequest,
    /// The pace delays the next dispatch until this time.
    Paced(Instant),
    /// The batch is used up, or another task dispatches. The drain task is woken again.
    Interrupted,
}

impl Stop {
    /// Returns the time of the next dispatch, if the pace delays it.
    pub(super) fn due(self) -> Option<Instant> {
        if let Self::Paced(due) = self { Some(due) } else { None }
    }
}

/// Dispatches requests at the pace of the rate, or of a limit below 1.
#[derive(Debug)]
pub(super) struct Dispatcher<'a>(&'a mut Drained);

impl<'a> Dispatcher<'a> {
    pub(super) fn new(drained: &'a mut Drained) -> Self {
        Self(drained)
    }

    /// Dispatches as many requests as fit, after other tasks have called `handed_on`. Returns why
    /// no more were dispatched.
    pub(super) fn dispatch(&mut self, core: &Core, handed_on: u32, cx: &mut Context<'_>) -> Stop {
        let admission = &core.admission;
        let mut is_changed = false;
        core.link.pacing_changed.swap(&mut is_changed);
        if is_changed {
            self.0.pace.set(core.pacing(), Instant::now());
        }
        let mut left = BATCH;
        let times = &admission.predictor.service_times;
        self.0.window.on_dispatched(handed_on);
        // Algorithms and paces need exact times, and so do requests that may be late.
        let is_exact = core.limiter.is_adaptive() || admission.is_paced() || self.0.has_late;
        self.0.readings.begin();
        let mut turn = None;
        let stop = loop {
            if !admission.may_dispatch(1) {
                break Stop::NoSlot;
            }
            if turn.is_none() {
                turn = OnTurn::take(admission);
            }
            if turn.is_none() || left == 0 {
                break Stop::Interrupted;
            }
            let is_spared = !is_exact && self.0.readings.spares();
            if is_exact {
                self.0.now = Instant::now();
            } else if !is_spared {
                self.read();
            }
            let now = self.0.now;
            if let Some(due) = self.0.pace.wait_until(now, gap(core)) {
                break Stop::Paced(due);
            }
            let mut charge = Charge::default();
            let next = core.link.backlog().queue.pop(now, times, &mut charge);
            let Some(next) = next else {
                // A free slot, and no request for it: the rate from now on says nothing about the
                // inner, although requests of others may wait.
                admission.predictor.drain_rate.begin(now);
                break Stop::NoRequest;
            };
            left -= 1;
            match next {
                Next::Remove(entry, reason) => drop(contain(|| entry.item.remove(reason.into()))),
                Next::Dispatch(entry) => {
                    // Whoever may be late is judged by a reading of its own (law 11).
                    let is_old = is_spared && entry.item.late().is_some();
                    let now = if is_old { self.read() } else { now };
                    if !self.try_dispatch(core, entry, &mut charge, now) {
                        break Stop::NoSlot;
                    }
                }
            }
        };
        drop(turn);
        self.0.is_busy = left < BATCH || handed_on > 0;
        if self.0.is_busy {
            if left == BATCH {
                self.0.now = Instant::now();
            }
            core.measure_rate(self.0.now);
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        stop
    }

    /// Dispatches or removes a request. Returns false if the request, and thus every later one, has
    /// to wait for a slot.
    #[inline(always)]
    fn try_dispatch(
        &mut self,
        core: &Core,
        entry: Queued,
        charge: &mut Charge,
        now: Instant,
    ) -> bool {
        match attempt(core, &entry, charge, now, By::DrainTask, None) {
            Tried::Made(Dispatched::Called) => self.on_called(core, now),
            Tried::Made(Dispatched::ToRun(runtime)) => {
                self.on_called(core, now);
                spawn_queued(entry.item.into_task(), runtime);
            }
            Tried::Made(Dispatched::Panicked) => {
                self.on_called(core, now);
                core.link.backlog().queue.keep_charge(charge);
            }
            Tried::Made(Dispatched::Unready) => core.link.backlog().queue.park(entry, charge),
            Tried::Made(Dispatched::NoSlot) | Tried::NoSlot | Tried::Foreseen => {
                core.link.backlog().queue.put_back(entry, charge);
                return false;
            }
            Tried::Made(Dispatched::Ended) | Tried::Removed => {
                core.link.backlog().queue.refund(charge);
            }
        }
        true
    }

    /// Reads the clock.
    fn read(&mut self) -> Instant {
        let now = Instant::now();
        self.0.readings.on_read(self.0.now, now);
        self.0.now = now;
        now
    }

    fn on_called(&mut self, core: &Core, now: Instant) {
        self.0.window.on_dispatched(1);
        let is_spaced = core.admission.exact_limit() < 1.0;
        let spread = if is_spaced { 0.75 + draw() / 2.0 } else { 1.0 };
        self.0.pace.on_dispatched(now, spread);
    }
}

/// Returns the spacing of a limit below 1: by Little's law, the mean service time divided by the
/// limit.
fn gap(core: &Core) -> Option<Duration> {
    let limit = core.admission.exact_limit();
    if !(limit > 0.0 && limit < 1.0) {
        return None;
    }
    let service_time = core.admission.predictor.service_times.mean()?;
    Duration::try_from_secs_f64(service_time.as_secs_f64() / limit).ok()
}

/// Returns whether something waits after a dispatch, and for no other reason than the limit.
pub(super) fn waits_for_slots(core: &Core, due: Option<Instant>) -> bool {
    let admission = &core.admission;
    let by_limit = match due {
        // A limit below 1 is a pace.
        Some(_) => !admission.has_rate(),
        None => !admission.may_dispatch(1),
    };
    by_limit && admission.occupancy.eligible() > 0 && !admission.counts().is_paused()
}
