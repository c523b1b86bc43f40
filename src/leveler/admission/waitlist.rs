//! Services under `Overflow::Wait` that wait for a place.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

use crate::leveler::lock;

/// Whom to wake when a place is free, the one who has waited longest first.
///
/// A free place is assigned to nobody: the woken service has to come and take it. So one that was polled
/// and then left asleep holds nobody up (law 9); but waking it was in vain. Therefore the drain task keeps
/// waking more of them, twice as many at each of its turns, for as long as a place stays free. Who is
/// woken and comes too late keeps its turn.
#[derive(Debug, Default)]
pub(crate) struct Waitlist {
    list: Mutex<List>,
    /// Length of the list, so that an empty one costs no lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct List {
    waiting: BTreeMap<u64, Waker>,
    next_turn: u64,
}

/// The place of one service in that list, once it has one.
#[derive(Debug, Default)]
pub(crate) struct WaiterId(Option<u64>);

impl Waitlist {
    /// Puts a service into the list, or renews its waker.
    pub(crate) fn register(&self, turn: &mut WaiterId, waker: &Waker) {
        let mut list = lock(&self.list);
        let turn = *turn.0.get_or_insert_with(|| {
            list.next_turn += 1;
            list.next_turn
        });
        list.waiting.insert(turn, waker.clone());
        self.len.store(list.waiting.len(), SeqCst);
    }

    /// Takes a service out of the list when it has got a place, or is dropped.
    pub(crate) fn forget(&self, turn: &mut WaiterId) {
        if let Some(turn) = turn.0.take() {
            let mut list = lock(&self.list);
            let waker = list.waiting.remove(&turn);
            self.len.store(list.waiting.len(), SeqCst);
            drop(list);
            // Outside of the lock: what a waker drops is not ours.
            drop(waker);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(SeqCst) == 0
    }

    pub(crate) fn wake_one(&self) {
        self.wake_some(1);
    }

    pub(crate) fn wake_all(&self) {
        self.wake_some(usize::MAX);
    }

    /// Wakes so many, or all there are.
    pub(crate) fn wake_some(&self, count: usize) {
        let mut left = count;
        while left > 0 && !self.is_empty() {
            let Some(waker) = self.pop() else { return };
            waker.wake();
            left -= 1;
        }
    }

    fn pop(&self) -> Option<Waker> {
        let mut list = lock(&self.list);
        let (_, waker) = list.waiting.pop_first()?;
        self.len.store(list.waiting.len(), SeqCst);
        Some(waker)
    }
}
