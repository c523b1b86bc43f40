//! How many streams are open.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// The most streams at a time: what a page asks of the process stays small, whoever opens it. The
/// page of one more polls.
pub(crate) const MOST: usize = 16;

#[derive(Clone, Debug, Default)]
pub(crate) struct Viewers(Arc<AtomicUsize>);

/// The right to a stream. Dropped, it makes room for another.
#[derive(Debug)]
pub(crate) struct Viewer(Arc<AtomicUsize>);

impl Viewers {
    /// Returns `None` if there are as many as there may be.
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
