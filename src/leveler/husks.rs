use std::sync::Arc;

use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts husks: the tasks of calls given up by their callers, until each task runs again. A husk
/// has no work.
///
/// A caller that gives up ends the work itself, and the slot is free for the next call. But the
/// task stays with the runtime until it runs. A loop of call and drop without a yield would pile up
/// tasks. Beyond a number of husks, the work is therefore left to the task, with its slot.
#[derive(Debug, Default)]
pub(crate) struct Husks(Arc<AtomicUsize>);

/// The most husks, about 500 bytes each. As many as the most tombstones in the queue.
const MAX: usize = 1024;

/// The mark of a husk. Its drop, with the task, ends the husk.
#[derive(Debug)]
pub(crate) struct Husk(Arc<AtomicUsize>);

impl Husks {
    /// Counts a husk; `None` if the number is reached.
    pub(crate) fn begin(&self) -> Option<Husk> {
        if self.0.load(SeqCst) >= MAX {
            return None;
        }
        self.0.fetch_add(1, SeqCst);
        Some(Husk(Arc::clone(&self.0)))
    }
}

impl Drop for Husk {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
