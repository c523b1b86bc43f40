//! Services under `Overflow::Wait` that wait for a place.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

use super::lock;

/// Whom to wake when a place is free.
///
/// A free place is assigned to nobody: the woken service has to come and take it. So one that was polled
/// and then left asleep holds nobody up (law 9); but waking it was in vain. Therefore the drain task keeps
/// waking more of them, twice as many at each of its turns, for as long as a place stays free.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Mutex<VecDeque<Arc<Waiter>>>,
    /// Length of the list, so that an empty one costs no lock.
    len: AtomicUsize,
}

/// The place of one service in that list.
#[derive(Debug, Default)]
pub(crate) struct Waiter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waker: Option<Waker>,
    listed: bool,
}

impl Waiters {
    /// Puts a service into the list, or renews its waker.
    pub(crate) fn register(&self, waiter: &Arc<Waiter>, waker: &Waker) {
        let mut list = lock(&self.list);
        let mut state = lock(&waiter.0);
        state.waker = Some(waker.clone());
        if !state.listed {
            state.listed = true;
            drop(state);
            list.push_back(Arc::clone(waiter));
            // Services that are made ready and dropped, over and over, must not fill the list.
            if list.len().is_power_of_two() {
                list.retain(|waiter| lock(&waiter.0).waker.is_some());
            }
            self.len.store(list.len(), SeqCst);
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
    pub(crate) fn wake_some(&self, mut count: usize) {
        while count > 0 && !self.is_empty() {
            let Some(waiter) = self.pop() else { return };
            count -= usize::from(waiter.wake());
        }
    }

    fn pop(&self) -> Option<Arc<Waiter>> {
        let mut list = lock(&self.list);
        let waiter = list.pop_front();
        self.len.store(list.len(), SeqCst);
        waiter
    }
}

impl Waiter {
    /// Takes a service out of the list when it has got a place or is dropped.
    pub(crate) fn forget(&self) {
        lock(&self.0).waker = None;
    }

    fn wake(&self) -> bool {
        let waker = {
            let mut state = lock(&self.0);
            state.listed = false;
            state.waker.take()
        };
        waker.map(Waker::wake).is_some()
    }
}
