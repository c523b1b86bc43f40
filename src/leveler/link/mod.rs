//! The link between the drain task and the rest of the leveler.
//!
//! Callers put requests into the [`Backlog`]. Finished calls, and inner services that may be ready,
//! leave a message in an [`Inbox`]. A [`Wakeup`](wakeup::Wakeup) then wakes the task. The [`Seat`]
//! names the task in charge, and has its state between two polls. The [`Standbys`] are the tasks on
//! other runtimes, ready to take over.

pub(crate) mod backlog;
pub(crate) mod dead;
pub(crate) mod drained;
pub(crate) mod inbox;
pub(crate) mod job;
pub(crate) mod nested_calls;
pub(crate) mod seat;
pub(crate) mod standbys;
pub(crate) mod task_call;
pub(crate) mod ticked;
pub(crate) mod wakeup;

use std::{collections::BTreeSet, fmt, iter, sync::Arc, time::Duration};

use self::{
    backlog::Backlog, dead::Dead, drained::Drained, inbox::Inbox, job::Job, seat::Seat,
    standbys::Standbys, ticked::Ticked,
};
use super::panics::contain;
use crate::{
    error::Reason,
    queue::{ChargeId, Gone, InnerId, Rules},
    sync::{
        CachePadded, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// The number of requests taken out of the queue under one lock. A larger number keeps callers
/// waiting for longer.
const TAKEN_AT_ONCE: usize = 128;

/// The state shared by the drain task with callers, calls and handles.
pub(crate) struct Link {
    backlog: CachePadded<Mutex<Backlog>>,
    /// Inner services to be polled again.
    pub(crate) woken: Inbox<BTreeSet<InnerId>>,
    /// Inner services found dead, with requests to answer.
    dead: Inbox<Vec<Dead>>,
    /// The real times of charged calls.
    pub(crate) settlements: Inbox<Vec<(ChargeId, Duration)>>,
    /// Set if the rate of dispatches has changed.
    pub(crate) pacing_changed: Inbox<bool>,
    /// The life of the drain task.
    pub(crate) seat: Seat<Box<Drained>>,
    /// The standbys of the drain task, on other runtimes.
    pub(crate) standbys: Standbys,
    /// The last tick of the drain task.
    pub(crate) ticked: Ticked,
    /// Set once a request has come that a turn has to look at, with a limit to its wait or nested.
    is_marked: AtomicBool,
    /// Set once the deadline of a drain has passed: nothing may wait any more.
    is_dismissed: AtomicBool,
    /// Set once the last layer, handle and service have gone: no request comes any more.
    is_orphaned: AtomicBool,
    /// Set while nothing finishes, and an operator was told. The end of a call is news then.
    is_stalled: AtomicBool,
}

impl Link {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            backlog: CachePadded::new(Mutex::new(Backlog::new(rules))),
            woken: Inbox::default(),
            dead: Inbox::default(),
            settlements: Inbox::default(),
            pacing_changed: Inbox::default(),
            seat: Seat::new(),
            standbys: Standbys::default(),
            ticked: Ticked::new(),
            is_marked: AtomicBool::new(false),
            is_dismissed: AtomicBool::new(false),
            is_orphaned: AtomicBool::new(false),
            is_stalled: AtomicBool::new(false),
        }
    }

    /// Lets the drain task answer the requests of a dead inner.
    pub(crate) fn on_dead(&self, dead: Dead) {
        self.dead.put(|inners| inners.push(dead));
    }

    /// Returns whether an inner was found dead since the last look.
    #[inline]
    pub(crate) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Takes the requests of dead inner services out of the queue, to be answered.
    pub(crate) fn take_dead(&self) -> Vec<Arc<dyn Job>> {
        let mut inners = Vec::new();
        self.dead.swap(&mut inners);
        let mut backlog = self.backlog();
        inners.iter().flat_map(|dead| backlog.take_all_of(dead.inner)).collect()
    }

    /// Locks the backlog. No user code may run under this lock.
    pub(crate) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock()
    }

    /// Records that a request with a limit to its wait, or a nested one, was put into the queue.
    pub(crate) fn mark(&self) {
        self.is_marked.store(true, SeqCst);
    }

    /// Returns whether such a request has come since the last call.
    pub(crate) fn take_mark(&self) -> bool {
        self.is_marked.load(SeqCst) && self.is_marked.swap(false, SeqCst)
    }

    /// Records that no more requests come. The caller then wakes the drain task.
    pub(crate) fn orphan(&self) {
        self.is_orphaned.store(true, SeqCst);
    }

    pub(crate) fn is_orphaned(&self) -> bool {
        self.is_orphaned.load(SeqCst)
    }

    /// Takes note whether a stall was told.
    pub(crate) fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, SeqCst);
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled.load(SeqCst)
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(SeqCst)
    }

    /// Removes all waiting requests, and all requests about to be put back by the drain task.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, SeqCst);
        self.remove_all(Reason::Closed);
    }

    /// Removes all waiting requests. Returns the number.
    ///
    /// Takes all requests out before answering any. An answered caller may call again on the spot,
    /// or on another thread, and would find its new request removed as well, without end.
    pub(crate) fn remove_all(&self, reason: Reason) -> usize {
        let mut waiting = Vec::new();
        loop {
            let before = waiting.len();
            let mut backlog = self.backlog();
            let oldest = iter::from_fn(|| backlog.pop_oldest(&Gone::default()));
            waiting.extend(oldest.take(TAKEN_AT_ONCE));
            drop(backlog);
            if waiting.len() < before + TAKEN_AT_ONCE {
                break;
            }
        }
        // The answers are given without the lock.
        let remove = |job: &Arc<dyn Job>| contain(|| job.remove(reason.into())).unwrap_or(false);
        waiting.into_iter().map(|job| usize::from(remove(&job))).sum()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("has_drain_task", &self.seat.is_taken())
            .finish_non_exhaustive()
    }
}
