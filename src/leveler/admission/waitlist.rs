use std::{cell::Cell, collections::BTreeMap, iter, task::Waker};

use tokio::time::Instant;

use crate::{
    leveler::panics::{contain, drop_waker},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// Services waiting for a place under `Overflow::Wait`. The longest waiting service is woken first.
///
/// A free place is assigned to nobody: the woken service has to come and take the place. If a
/// service was polled and then forgotten, it therefore blocks nobody (law 9), but wastes its
/// wake-up. While a place stays free, the drain task wakes more services on each poll, twice as
/// many each time. A woken service that finds no place keeps its position. A
/// [`Waiter`](super::waiter::Waiter) is in the list while it lives.
#[derive(Debug, Default)]
pub(crate) struct Waitlist {
    list: Mutex<List>,
    /// The length of the list. An empty list needs no lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct List {
    /// The wakers of the services not woken since their last poll.
    waiting: BTreeMap<u64, Waker>,
    /// The beginning of each wait. The longest wait is the first.
    since: BTreeMap<u64, Instant>,
    next_id: u64,
}

impl Waitlist {
    /// Adds a service with a waker, as the last. Returns the position.
    pub(super) fn join(&self, waker: Waker, now: Instant) -> u64 {
        self.list.with(|list| {
            list.next_id += 1;
            let id = list.next_id;
            list.waiting.insert(id, waker);
            list.since.insert(id, now);
            self.len.store(list.waiting.len(), SeqCst);
            id
        })
    }

    /// Replaces the waker of a service. A woken service returns to its position.
    pub(super) fn renew(&self, id: u64, waker: Waker) {
        let before = self.list.with(|list| {
            let before = list.waiting.insert(id, waker);
            self.len.store(list.waiting.len(), SeqCst);
            before
        });
        drop_waker(before);
    }

    /// Takes a service out of the list. Returns whether the service had been woken for a place.
    pub(super) fn leave(&self, id: u64) -> bool {
        let waker = self.list.with(|list| {
            list.since.remove(&id);
            let waker = list.waiting.remove(&id);
            self.len.store(list.waiting.len(), SeqCst);
            waker
        });
        let was_woken = waker.is_none();
        drop_waker(waker);
        was_woken
    }

    /// Returns the number of services in the list, and the beginning of the longest wait.
    pub(crate) fn longest_wait(&self) -> (usize, Option<Instant>) {
        self.list.with(|list| (list.since.len(), list.since.values().next().copied()))
    }

    /// Returns whether no service is left to be woken.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(SeqCst) == 0
    }

    /// Wakes the service that has waited longest. Also wake the drain task, which offers the place
    /// to more services.
    ///
    /// A waker may run its task on the spot. If the task takes a place and frees it again, the next
    /// service is woken on the same stack. Beyond a depth the rest is left to the drain task.
    pub(crate) fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        let Some(_deeper) = Depth::deeper() else { return };
        let first = self.list.with(|list| self.pop(list));
        first.into_iter().for_each(wake);
    }

    pub(crate) fn wake_all(&self) {
        self.wake_some(usize::MAX);
    }

    /// Wakes up to `count` services.
    pub(crate) fn wake_some(&self, count: usize) {
        if count == 0 || self.is_empty() {
            return;
        }
        // All wakers are taken out first. If a waker runs its task on the spot, the service is back
        // at its position before the next service is woken.
        let woken: Vec<_> =
            self.list.with(|list| iter::from_fn(|| self.pop(list)).take(count).collect());
        woken.into_iter().for_each(wake);
    }

    fn pop(&self, list: &mut List) -> Option<Waker> {
        let (_, waker) = list.waiting.pop_first()?;
        self.len.store(list.waiting.len(), SeqCst);
        Some(waker)
    }
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The most wake-ups on one stack, each within another. A level may take 10 KiB without
/// optimization.
const MAX_DEPTH: usize = 16;

/// A level of nested wake-ups on this thread. Ends in `Drop`.
struct Depth;

impl Depth {
    fn deeper() -> Option<Self> {
        // In a model one thread plays all.
        let is_deep = DEPTH.get() >= MAX_DEPTH && !cfg!(shuttle);
        (!is_deep).then(|| {
            DEPTH.set(DEPTH.get() + 1);
            Self
        })
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Wakes a service. A panic of the waker reaches neither the caller nor the next services.
fn wake(waker: Waker) {
    contain(|| waker.wake());
}
