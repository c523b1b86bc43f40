//! The link between the drain task and everybody else.
//!
//! Callers send requests through the channel that ends in the [`Backlog`](backlog::Backlog). Calls
//! that end and inner services that may be ready leave a message in an [`Inbox`](inbox::Inbox). A
//! [`Wakeup`](wakeup::Wakeup) wakes the task for all of them.

pub(crate) mod backlog;
pub(crate) mod inbox;
pub(crate) mod job;
pub(crate) mod wakeup;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use self::{backlog::Backlog, inbox::Inbox, job::Job};
use super::contain::{contain, lock};
use crate::{
    error::Reason,
    queue::{ChargeId, InnerId, Rules},
};

/// What the drain task shares with callers, calls and handles.
pub(crate) struct Link {
    backlog: Mutex<Backlog>,
    /// Inner services that may be ready again.
    pub(crate) woken: Inbox<BTreeSet<InnerId>>,
    /// The time that charged calls have really taken.
    pub(crate) settlements: Inbox<Vec<(ChargeId, Duration)>>,
    /// Whether there is a drain task.
    is_alive: AtomicBool,
    /// Whether the deadline of a drain has passed: nothing waits any more.
    is_dismissed: AtomicBool,
}

impl Link {
    pub(super) fn new(receiver: mpsc::Receiver<Arc<dyn Job>>, rules: Rules) -> Self {
        Self {
            backlog: Mutex::new(Backlog::new(receiver, rules)),
            woken: Inbox::default(),
            settlements: Inbox::default(),
            is_alive: AtomicBool::new(false),
            is_dismissed: AtomicBool::new(false),
        }
    }

    /// Locks the backlog. No code of the user's may run under this lock.
    pub(crate) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.backlog)
    }

    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive.load(SeqCst)
    }

    /// Becomes alive. Returns whether this call did it: then the caller spawns the drain task.
    pub(crate) fn begin(&self) -> bool {
        self.is_alive.compare_exchange(false, true, SeqCst, SeqCst).is_ok()
    }

    /// Takes note that the drain task has ended.
    pub(crate) fn end(&self) {
        self.is_alive.store(false, SeqCst);
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(SeqCst)
    }

    /// Removes all requests that wait, now and those that the drain task is about to put back.
    pub(crate) fn dismiss(&self) {
        self.is_dismissed.store(true, SeqCst);
        self.remove_all(Reason::Closed);
    }

    /// Removes all requests that wait. Returns how many.
    pub(crate) fn remove_all(&self, reason: Reason) -> usize {
        let mut removed = 0;
        loop {
            // One at a time: the answer is given without the lock.
            let next = self.backlog().pop_oldest();
            let Some(job) = next else { return removed };
            removed += usize::from(contain(|| job.remove(reason.into())).unwrap_or(false));
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_alive", &self.is_alive()).finish_non_exhaustive()
    }
}
