use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::panics::{contain, drop_waker};
use crate::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
    fault::{Fault, is_planted},
};

/// Notifies the watchers: tasks waiting for the end of all work, or for more room.
///
/// A notification locks. One count for both keeps the lock off the path of calls while nobody
/// watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watching: AtomicUsize,
    idle: Event,
    room: Event,
}

impl Watchers {
    /// Notifies of a free place, and of the end of all work if `is_idle`.
    #[inline]
    pub(crate) fn on_place_free(&self, is_idle: bool) {
        if self.watching.load(SeqCst) > 0 {
            self.notify(is_idle);
        }
    }

    #[cold]
    fn notify(&self, is_idle: bool) {
        self.room.notify();
        if is_idle {
            self.idle.notify();
        }
    }

    /// Waits for `is_idle` to return true. Calls `is_idle` after each notification.
    pub(crate) async fn idle(&self, is_idle: impl Fn() -> bool) {
        let _watching = Watching::begin(&self.watching);
        let mut entry = Entry::new(&self.idle);
        poll_fn(|cx| {
            if is_idle() {
                return Poll::Ready(());
            }
            entry.enter(cx.waker());
            // Again, since a notification before the entry wakes nobody.
            match is_idle() && !is_planted(Fault::NoticeOverlooked) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Returns a future that resolves at the next notification of room after this call.
    pub(crate) fn room_changed(&self) -> RoomChanged<'_> {
        let watching = Watching::begin(&self.watching);
        let (seen, entry) = (self.room.times(), Entry::new(&self.room));
        RoomChanged { seen, entry, _watching: watching }
    }
}

/// A count of one watcher. Ends in `Drop`.
#[derive(Debug)]
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn begin(watching: &'a AtomicUsize) -> Self {
        watching.fetch_add(1, SeqCst);
        Self(watching)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Resolves at the next notification of room after the making, polled before or not. Cancel safe.
#[derive(Debug)]
pub(crate) struct RoomChanged<'a> {
    /// The number of notifications before the making.
    seen: u64,
    entry: Entry<'a>,
    _watching: Watching<'a>,
}

impl Future for RoomChanged<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.entry.event.times() != self.seen {
            return Poll::Ready(());
        }
        self.entry.enter(cx.waker());
        // Again, since a notification before the entry wakes nobody.
        let times = self.entry.event.times();
        match times != self.seen && !is_planted(Fault::NoticeOverlooked) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// An event that may happen again and again, with the tasks that wait for the next time.
///
/// The wakers are user code: cloned, woken and dropped outside of the lock. (Tokio's `Notify`
/// clones a waker under its lock, and a panic of a waker keeps the other tasks asleep.)
#[derive(Debug, Default)]
struct Event(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The number of notifications so far.
    times: u64,
    /// The wakers of the tasks polled since the last notification.
    wakers: BTreeMap<u64, Waker>,
    next_id: u64,
}

impl Event {
    fn times(&self) -> u64 {
        self.0.with(|waiting| waiting.times)
    }

    /// Wakes all waiting tasks. A panic of a waker reaches neither the caller nor the next task.
    fn notify(&self) {
        let woken = self.0.with(|waiting| {
            waiting.times += 1;
            mem::take(&mut waiting.wakers)
        });
        for waker in woken.into_values() {
            contain(|| waker.wake());
        }
    }
}

/// The entry of a task in the list of an event. Ends in `Drop`.
#[derive(Debug)]
struct Entry<'a> {
    event: &'a Event,
    /// The key of the waker, once entered.
    id: Option<u64>,
}

impl<'a> Entry<'a> {
    fn new(event: &'a Event) -> Self {
        Self { event, id: None }
    }

    /// Enters the waker, in place of an earlier one. The next notification takes it.
    fn enter(&mut self, waker: &Waker) {
        let waker = waker.clone();
        let before = self.event.0.with(|waiting| {
            let id = *self.id.get_or_insert_with(|| {
                waiting.next_id += 1;
                waiting.next_id
            });
            waiting.wakers.insert(id, waker)
        });
        drop_waker(before);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            drop_waker(self.event.0.with(|waiting| waiting.wakers.remove(&id)));
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;
