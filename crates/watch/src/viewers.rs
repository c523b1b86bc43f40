//! The count of open streams.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// The highest number of streams at a time: 16. The cost of open pages stays small, and the 17th
/// page polls.
pub(crate) const MOST: usize = 16;

#[derive(Clone, Debug, Default)]
pub(crate) struct Viewers(Arc<AtomicUsize>);

/// The right to a stream. Dropping the right makes room for another stream.
#[derive(Debug)]
pub(crate) struct Viewer(Arc<AtomicUsize>);

impl Viewers {
    /// Returns the right to a stream; `None` if 16 are open.
    pub(crate) fn join(&self) -> Option<Viewer> {
        let more = |open: usize| (open < MOST).then_some(open + 1);
        self.0.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(Viewer(self.0.clone()))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
