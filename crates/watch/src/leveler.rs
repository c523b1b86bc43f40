//! A watched leveler.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tower_load_leveling::{Handle, Stats};

use crate::history::History;

#[derive(Debug)]
pub(crate) struct Watched {
    /// The name of the leveler. Of several with one name, the second is `name#2`, as in metrics.
    pub(crate) name: String,
    pub(crate) handle: Handle,
    history: Mutex<History>,
}

impl Watched {
    /// Returns a leveler watched from the snapshot `before` on.
    pub(crate) fn new(name: String, handle: Handle, before: Stats) -> Self {
        let history = Mutex::new(History::new(before));
        Self { name, handle, history }
    }

    /// Locks the history. Only code of this crate runs under the lock.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the flags whose change makes a sample at once: closed, paused.
    pub(crate) fn switches(&self) -> (bool, bool) {
        (self.handle.is_closed(), self.handle.is_paused())
    }
}
