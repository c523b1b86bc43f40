use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The budget of requests that bypass the queue.
#[derive(Debug)]
pub(super) struct Bypass {
    running: AtomicUsize,
    limit: AtomicUsize,
}

impl Bypass {
    pub(super) fn new(limit: usize) -> Self {
        Self { running: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
    }

    /// Counts a request in. Returns false if the budget is used up.
    pub(super) fn begin(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let next = |now: usize| (now < limit).then_some(now + 1);
        self.running.fetch_update(SeqCst, SeqCst, next).is_ok()
    }

    pub(super) fn end(&self) {
        self.running.fetch_sub(1, SeqCst);
    }
}
