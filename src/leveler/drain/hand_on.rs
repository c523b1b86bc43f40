//! Hand-on: the task of an ended call makes the next call itself.

use std::sync::Arc;

use tokio::{task::coop::has_budget_remaining, time::Instant};

use super::attempt::{By, Tried, attempt};
use crate::{
    error::Reason,
    leveler::{
        admission::{Admission, on_turn::OnTurn},
        core::Core,
        inline_polling::{INTERVAL, SHORT_TIME},
        link::{
            backlog::Queued,
            job::Dispatched,
            task_call::{AtEnd, TaskCall, UnpolledWork},
        },
        runtime::RuntimeId,
    },
    queue::Charge,
    sync::{
        fault::{Fault, is_planted},
        spin_loop,
    },
};

/// The number of calls by a task before it leaves the rest to the drain task.
const MAX_ROW: u8 = 32;

/// The number of requests to look at for one to call. The rest have gone, or are too late.
const TRIES: usize = 4;

/// The number of looks for the turn. The holder makes a call, in some hundred nanoseconds. Waking
/// the drain task costs more than waiting.
const SPINS: usize = if cfg!(shuttle) { 1 } else { 32 };

/// The most calls polled at once in a poll of their task.
const MAX_AT_ONCE: u8 = 8;

/// A task that makes calls, one after the other.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// The runtime of the task, once asked for.
    home: Option<RuntimeId>,
    /// The calls made so far.
    row: u8,
    /// The calls made in this poll of the task, and the time of the first.
    in_poll: u8,
    since: Option<Instant>,
}

/// A call for the task to run.
pub(super) struct Handed {
    pub(super) call: Arc<dyn TaskCall>,
    /// The work, if the first poll is made in this poll of the task.
    pub(super) unpolled: Option<UnpolledWork>,
    /// Set if the first poll is measured.
    pub(super) is_measured: bool,
}

impl Hand {
    /// Begins a poll of the task.
    pub(super) fn begin_poll(&mut self) {
        self.in_poll = 0;
    }

    /// Makes the next call, after a call of this task has ended without telling the drain task of
    /// the free slot. Corrects the charge of the ended call, before the next is chosen. Returns the
    /// call, for the task to run. Returns `None` if there is nothing to call, or if the drain task
    /// is told.
    ///
    /// Only a request of the same runtime is called (law 1), and only the next by priority, flow
    /// and order of arrival. A pace, an eviction or the limit of flows leaves the choice to the
    /// drain task. The task has already left everything of the ended call: span, dispatcher and
    /// scope (law 18).
    pub(super) fn next(&mut self, core: &Core, end: &mut AtEnd) -> Option<Handed> {
        let next = self.next_after(core, end);
        if let Some((charge, time)) = end.charge {
            core.settle_at_once(charge, time);
        }
        next
    }

    /// Makes the next call, perhaps before the charge of the ended call is corrected.
    fn next_after(&mut self, core: &Core, end: &mut AtEnd) -> Option<Handed> {
        if is_planted(Fault::HandedToNobody) {
            return None;
        }
        // If no request waits now, the next request finds the slot, or wakes the drain task. If no
        // slot is free, the next task to free a slot looks.
        if core.counts().waiting() == 0 || !core.admission.may_dispatch(1) {
            return None;
        }
        if !self.may_call(core) {
            core.wake();
            return None;
        }
        // The holder of the turn lets the drain task look at the free slot.
        let turn = take_turn(&core.admission)?;
        let mut is_due = false;
        let next = self.call_next(core, end, &mut is_due);
        drop(turn);
        if next.is_none() || is_due || leaves_work(core) {
            core.wake();
        }
        next
    }

    fn may_call(&mut self, core: &Core) -> bool {
        // A model has no runtimes.
        let is_home =
            cfg!(shuttle) || core.runtime.is_given() || self.home(core) != RuntimeId::NONE;
        // With the budget used up, a ready inner would look unready.
        is_home && self.row < MAX_ROW && has_budget_remaining() && !core.admission.is_paced()
    }

    fn home(&mut self, core: &Core) -> RuntimeId {
        *self.home.get_or_insert_with(|| core.runtime.home_of_caller())
    }

    /// Calls the next request. Sets `is_due` if the drain task needs to look at the requests handed
    /// on.
    fn call_next(&mut self, core: &Core, end: &mut AtEnd, is_due: &mut bool) -> Option<Handed> {
        let home = self.home(core);
        for _ in 0..TRIES {
            // Requests admitted over the bound come with evictions.
            if core.admission.is_over_bound() {
                break;
            }
            // Mostly little time has passed since the end of the last call. Algorithms need exact
            // times.
            let ended = end.at.take().filter(|_| !core.limiter.is_adaptive());
            let now = ended.unwrap_or_else(Instant::now);
            let times = &core.admission.predictor.service_times;
            let mut backlog = core.link.backlog();
            if let Some((charge, time)) = end.charge.take() {
                backlog.queue.settle(charge, time);
            }
            let mut charge = Charge::default();
            let next = backlog.pop_for(home, now, times, &mut charge);
            *is_due = next.is_some() && backlog.is_look_due();
            drop(backlog);
            let Some(entry) = next else { break };
            // Whoever may be late is judged by a reading of its own (law 11): a waker or a
            // subscriber may have taken long since the end.
            let is_old = ended.is_some() && entry.item.late().is_some();
            let now = if is_old { Instant::now() } else { now };
            let mut work = None;
            let at_once = self.polls_at_once(core, now).then_some(&mut work);
            match attempt(core, &entry, &mut charge, now, By::EndedCall, at_once) {
                Tried::Made(Dispatched::ToRun(_)) => {
                    return Some(self.take_up(entry.item.into_task(), work, now));
                }
                Tried::Made(Dispatched::Called) => break,
                Tried::Made(Dispatched::Panicked) => {
                    core.link.backlog().queue.keep_charge(&charge);
                    break;
                }
                Tried::Made(Dispatched::Ended) | Tried::Removed => {
                    core.link.backlog().not_handed_on(&charge);
                }
                Tried::Made(Dispatched::Unready | Dispatched::NoSlot)
                | Tried::NoSlot
                | Tried::Foreseen => {
                    put_back(core, entry, &charge);
                    break;
                }
            }
        }
        None
    }

    /// Returns whether the first poll of a call made at `now` is made at once: first polls are
    /// short, and little time has gone by in this poll of the task. Other tasks on the thread wait
    /// for the end of the poll.
    fn polls_at_once(&self, core: &Core, now: Instant) -> bool {
        let is_soon = match self.since.filter(|_| self.in_poll > 0) {
            Some(since) => now.saturating_duration_since(since) <= SHORT_TIME,
            None => true,
        };
        self.in_poll < MAX_AT_ONCE
            && is_soon
            && core.inline_polling.is_short()
            && has_budget_remaining()
    }

    /// Takes up a call made at `now`.
    fn take_up(
        &mut self,
        call: Arc<dyn TaskCall>,
        unpolled: Option<UnpolledWork>,
        now: Instant,
    ) -> Handed {
        let is_measured = u64::from(self.row) % INTERVAL == 0;
        self.row += 1;
        if self.in_poll == 0 {
            self.since = Some(now);
        }
        self.in_poll += 1;
        Handed { call, unpolled, is_measured }
    }
}

/// Takes the turn to dispatch. `None` if another task holds the turn for longer; the holder then
/// lets the drain task look.
fn take_turn(admission: &Admission) -> Option<OnTurn<'_>> {
    for _ in 0..SPINS {
        match OnTurn::try_take(admission) {
            None => spin_loop(),
            turn => return turn,
        }
    }
    OnTurn::take(admission)
}

/// Returns whether the drain task has something to do after a call by another task.
fn leaves_work(core: &Core) -> bool {
    let counts = core.counts();
    counts.is_closed()
        || core.link.is_stalled()
        || counts.waiting() > 0 && core.admission.may_dispatch(1)
}

/// Puts back a request that could not be called. The drain task is woken afterwards, and parks the
/// request if the inner is not ready. If this task parked the request, and the inner had become
/// ready meanwhile, nobody would be woken.
fn put_back(core: &Core, entry: Queued, charge: &Charge) {
    let nested = entry.item.must_not_wait().then(|| (entry.inner, Arc::clone(&entry.item)));
    let mut backlog = core.link.backlog();
    backlog.put_back_handed_on(entry, charge);
    if let Some((inner, job)) = nested {
        // The drain task may have looked while the request was in hand.
        backlog.add_nested(inner, job);
    }
    drop(backlog);
    // As for a newcomer: a drain task that dies meanwhile has not seen the request.
    if !core.link.seat.is_taken() {
        core.link.remove_all(Reason::Closed);
    }
}

#[cfg(all(test, shuttle))]
mod models;
