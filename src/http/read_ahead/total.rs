//! The budget shared by all requests of a layer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use crate::sync::{
    AtomicWaker, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// The bytes held by all requests, and their limit. Requests without a share wait in a list.
pub(super) struct Total {
    limit: usize,
    held: AtomicUsize,
    /// The number of entries of `starving`.
    listed: AtomicUsize,
    starving: Mutex<List>,
}

/// Starving requests by their time of entry. The oldest is woken first.
#[derive(Default)]
struct List {
    next: u64,
    wakers: BTreeMap<u64, Arc<AtomicWaker>>,
}

impl Total {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            listed: AtomicUsize::new(0),
            starving: Mutex::new(List::default()),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(SeqCst)
    }

    pub(super) fn starving(&self) -> usize {
        self.listed.load(SeqCst)
    }

    pub(super) fn has_room(&self) -> bool {
        self.held() < self.limit
    }

    /// Takes the bytes of a frame. Frames are not split, so the last frame may exceed the limit.
    pub(super) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, SeqCst);
    }

    /// Releases bytes, and wakes a starving request. To be called without locks.
    pub(super) fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.held.fetch_sub(bytes, SeqCst);
        self.wake_next();
    }

    fn enlist(&self, waker: &Arc<AtomicWaker>) -> u64 {
        let waker = Arc::clone(waker);
        let mut list = self.starving.lock();
        let id = list.next;
        list.next += 1;
        list.wakers.insert(id, waker);
        self.listed.fetch_add(1, SeqCst);
        id
    }

    /// Wakes the oldest starving request, if bytes are free. The woken request wakes the next.
    fn wake_next(&self) {
        if self.starving() == 0 || !self.has_room() {
            return;
        }
        let first = self.starving.lock().wakers.pop_first();
        if let Some((_, waker)) = first {
            self.listed.fetch_sub(1, SeqCst);
            waker.wake();
        }
    }
}

impl fmt::Debug for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Total")
            .field("limit", &self.limit)
            .field("held", &self.held())
            .field("starving", &self.starving())
            .finish()
    }
}

/// A request without a share, because the total is used up. `Drop` passes the turn on.
pub(super) struct Starving {
    total: Arc<Total>,
    id: u64,
    waker: Arc<AtomicWaker>,
}

impl Starving {
    /// Enters the list. Check for room afterwards: an earlier release wakes nobody.
    pub(super) fn new(total: &Arc<Total>, cx: &Context<'_>) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        waker.register(cx.waker());
        let id = total.enlist(&waker);
        Self { total: Arc::clone(total), id, waker }
    }

    /// Stays in the list. A woken request enters again at the end.
    pub(super) fn stay(&mut self, waker: &Waker) {
        self.waker.register(waker);
        let is_listed = self.total.starving.lock().wakers.contains_key(&self.id);
        if !is_listed {
            self.id = self.total.enlist(&self.waker);
        }
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        let listed = self.total.starving.lock().wakers.remove(&self.id);
        match listed {
            Some(_) => drop(self.total.listed.fetch_sub(1, SeqCst)),
            // The request was woken. The bytes left over are for the next.
            None => self.total.wake_next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;
    use tokio_test::task;

    #[test]
    fn starving_requests_are_woken_in_turn_as_long_as_bytes_are_free() {
        let total = Arc::new(Total::new(10));
        total.take(12);
        let mut tasks: Vec<_> = (0..4).map(|_| task::spawn(())).collect();
        let mut starving: Vec<_> =
            tasks.iter_mut().map(|task| task.enter(|cx, _| Starving::new(&total, cx))).collect();
        assert_eq!(total.starving(), 4);
        let woken =
            |tasks: &[task::Spawn<()>]| tasks.iter().map(task::Spawn::is_woken).collect::<Vec<_>>();
        total.release(1);
        assert_eq!(woken(&tasks), [false; 4], "still over the limit");
        total.release(6);
        assert_eq!(woken(&tasks), [true, false, false, false]);
        // The second gives up, and the first has enough.
        drop(starving.remove(1));
        drop(starving.remove(0));
        assert_eq!(woken(&tasks), [true, false, true, false]);
        // The third finds the bytes gone again, and starts at the end.
        total.take(5);
        starving[0].stay(&noop_waker());
        total.release(1);
        assert_eq!(woken(&tasks), [true, false, true, true]);
        drop(starving);
        assert_eq!((total.starving(), total.held()), (0, 9));
    }
}
