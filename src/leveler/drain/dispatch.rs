use std::{task::Context, time::Duration};

use tokio::time::Instant;

use super::BATCH;
use crate::{
    error::Reason,
    leveler::{
        admission::prediction::predictor::Prediction,
        core::Core,
        link::{backlog::Queued, drained::Drained, job::Dispatched},
        panics::contain,
    },
    queue::{Charge, Entry, Next},
    rng::draw,
};

/// Dispatches requests at the pace of the rate, or of a limit below 1.
#[derive(Debug)]
pub(super) struct Dispatcher<'a>(&'a mut Drained);

impl<'a> Dispatcher<'a> {
    pub(super) fn new(drained: &'a mut Drained) -> Self {
        Self(drained)
    }

    /// Dispatches as many requests as fit. Returns the time of the next dispatch, if the pace
    /// delays it. The clock is read anew for each request.
    pub(super) fn dispatch(&mut self, core: &Core, cx: &mut Context<'_>) -> Option<Instant> {
        let admission = &core.admission;
        let mut is_changed = false;
        core.link.pacing_changed.swap(&mut is_changed);
        if is_changed {
            self.0.pace.set(core.pacing(), Instant::now());
        }
        let (mut left, mut due) = (BATCH, None);
        let times = admission.predictor.service_times.by_priority();
        while left > 0 && admission.may_dispatch(1) {
            let now = Instant::now();
            self.0.now = now;
            due = self.0.pace.wait_until(now, gap(core));
            if due.is_some() {
                break;
            }
            let next = core.link.backlog().queue.pop(now, &times);
            let Some(next) = next else { break };
            left -= 1;
            match next {
                Next::Remove(entry, reason) => drop(contain(|| entry.item.remove(reason.into()))),
                Next::Dispatch(entry, charge) => {
                    if !self.try_dispatch(core, entry, charge, now) {
                        break;
                    }
                }
            }
        }
        self.0.is_busy = left < BATCH;
        if self.0.is_busy {
            core.measure_rate(self.0.now);
            admission.end_dispatching();
        }
        if left == 0 {
            cx.waker().wake_by_ref();
        }
        due
    }

    /// Dispatches or removes a request. Returns false if the request, and thus all others, has to
    /// wait for a slot.
    fn try_dispatch(&mut self, core: &Core, entry: Queued, charge: Charge, now: Instant) -> bool {
        if let Some(reason) = too_late(core, &entry, now) {
            core.link.backlog().queue.refund(&charge);
            contain(|| entry.item.remove(reason.into()));
            return true;
        }
        if !core.admission.may_dispatch(entry.item.cost()) {
            core.link.backlog().queue.put_back(entry, &charge);
            return false;
        }
        let Entry { seq, inner, rank, admitted, item } = entry;
        let again = |item| Entry { seq, inner, rank, admitted, item };
        let mut charge = charge;
        let started = contain(|| item.dispatch(now, charge.id, &mut charge.right));
        match started {
            Some(Dispatched::Started) => self.on_called(core, now),
            Some(Dispatched::Panicked) => {
                self.on_called(core, now);
                core.link.backlog().queue.keep_charge(&charge);
            }
            Some(Dispatched::Unready(item)) => core.link.backlog().queue.park(again(item), &charge),
            Some(Dispatched::NoSlot(item)) => {
                core.link.backlog().queue.put_back(again(item), &charge);
                return false;
            }
            Some(Dispatched::Ended) | None => core.link.backlog().queue.refund(&charge),
        }
        true
    }

    fn on_called(&mut self, core: &Core, now: Instant) {
        self.0.window.on_dispatched();
        let is_spaced = core.admission.exact_limit() < 1.0;
        let spread = if is_spaced { 0.75 + draw() / 2.0 } else { 1.0 };
        self.0.pace.on_dispatched(now, spread);
    }
}

/// Returns the reason not to dispatch a request at its turn, if any.
fn too_late(core: &Core, entry: &Queued, now: Instant) -> Option<Reason> {
    let job = &entry.item;
    if let Some(late) = job.late().filter(|late| late.at <= now) {
        return Some(late.reason);
    }
    let left = job.deadline()?.saturating_duration_since(now);
    let prediction = core.admission.predict(job.predicted_by()?, left, now);
    matches!(prediction, Prediction::TooLate { .. }).then_some(Reason::WouldMissDeadline)
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
    by_limit && admission.occupancy.queued() > 0 && !admission.counts().is_paused()
}
