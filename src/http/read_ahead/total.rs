//! The budget shared by all requests of a layer.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::Arc,
    task::{Context, Waker},
};

use crate::{
    leveler::panics::{contain, drop_waker},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
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
    wakers: BTreeMap<u64, Waker>,
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

    /// Adds a request at the end of the list.
    fn enlist(&self, list: &mut List, waker: Waker) -> u64 {
        let id = list.next;
        list.next += 1;
        list.wakers.insert(id, waker);
        self.listed.fetch_add(1, SeqCst);
        id
    }

    /// Wakes the oldest starving request, if bytes are free. The woken request wakes the next. If
    /// the waker panics, the request may never come, and the next is woken.
    fn wake_next(&self) {
        for _ in 0..self.starving() {
            if !self.has_room() {
                return;
            }
            let first = self.starving.with(|list| list.wakers.pop_first());
            let Some((_, waker)) = first else { return };
            self.listed.fetch_sub(1, SeqCst);
            if contain(|| waker.wake()).is_some() {
                return;
            }
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
}

impl Starving {
    /// Enters the list. Check for room afterwards: an earlier release wakes nobody.
    pub(super) fn new(total: &Arc<Total>, cx: &Context<'_>) -> Self {
        let waker = cx.waker().clone();
        let id = total.starving.with(|list| total.enlist(list, waker));
        Self { total: Arc::clone(total), id }
    }

    /// Stays in the list. A woken request enters again at the end.
    pub(super) fn stay(&mut self, waker: &Waker) {
        let Self { total, id } = self;
        let waker = waker.clone();
        let before = total.starving.with(|list| match list.wakers.get_mut(id) {
            Some(listed) => Some(mem::replace(listed, waker)),
            None => {
                *id = total.enlist(list, waker);
                None
            }
        });
        drop_waker(before);
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        let listed = self.total.starving.with(|list| list.wakers.remove(&self.id));
        if listed.is_some() {
            self.total.listed.fetch_sub(1, SeqCst);
            drop_waker(listed);
        } else {
            // The request was woken. The bytes left over are for the next.
            self.total.wake_next();
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
