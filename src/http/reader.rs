//! The reader of a body, observed from the side.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use tokio::time::Instant;

use super::body_limits::Progress;
use crate::{
    leveler::panics::{contain, drop_waker},
    sync::Mutex,
};

/// Stands between a body and the waker of its reader, to know since when data lies unread.
pub(super) struct Reader(Mutex<Reading>);

struct Reading {
    progress: Progress,
    /// The waker of a reader that waits for data.
    waker: Option<Waker>,
}

impl Reader {
    /// Returns a reader that has not asked for anything yet.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Reading { progress: Progress::new(now), waker: None }))
    }

    pub(super) fn progress(&self) -> Progress {
        self.0.with(|reading| reading.progress)
    }

    /// Takes note that the reader waits for data. Returns the waker to poll the body with, which
    /// wakes `waker`.
    pub(super) fn waker(self: &Arc<Self>, waker: &Waker) -> Waker {
        let (waker, now) = (waker.clone(), Instant::now());
        let before = self.0.with(|reading| {
            reading.progress.on_asked(now);
            reading.waker.replace(waker)
        });
        drop_waker(before);
        Waker::from(Arc::clone(self))
    }

    /// Takes note of data that the reader has to ask for, and of `bytes` that the reader got.
    pub(super) fn mark_unread(&self, bytes: u64) {
        let now = Instant::now();
        self.0.with(|reading| reading.progress.on_data(bytes, now));
    }
}

/// A panic of the reader's waker is kept from the source of the body, which may serve others.
impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let now = Instant::now();
        let waker = self.0.with(|reading| {
            reading.progress.on_data(0, now);
            reading.waker.take()
        });
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
    }
}
