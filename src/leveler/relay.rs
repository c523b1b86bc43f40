//! A waker of this crate, in place of a user's.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use super::panics::{contain, drop_waker};
use crate::sync::Mutex;

/// Wakes a task of the user's, and keeps a panic of its waker from the waking code. For code of
/// tokio's that wakes several tasks in a row, or clones and drops wakers under a lock.
#[derive(Debug, Default)]
pub(crate) struct Relay(Mutex<Option<Waker>>);

impl Relay {
    /// Sets the task to wake, in place of an earlier one. Returns the waker.
    pub(crate) fn to(self: &Arc<Self>, task: &Waker) -> Waker {
        let task = task.clone();
        drop_waker(self.0.with(|before| before.replace(task)));
        Waker::from(Arc::clone(self))
    }

    /// Wakes nobody any more.
    pub(crate) fn end(&self) {
        drop_waker(self.0.with(Option::take));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A runtime that ends drops the relays which it still has.
        self.end();
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(task) = self.0.with(Option::take) {
            contain(|| task.wake());
        }
    }
}
