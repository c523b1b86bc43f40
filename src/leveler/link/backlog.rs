//! The waiting requests, read or unread.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{sync::mpsc, time::Instant};

use super::job::Job;
use crate::queue::{Entry, Gone, InnerId, Queue, Rules};

/// The capacity of the channel to the drain task, in requests. Also the most by which requests that
/// displace others may exceed the bound: one channel's worth, not read by the drain task yet.
pub(crate) const CHANNEL: usize = 1024;

pub(crate) type Queued = Entry<Arc<dyn Job>>;

/// The receiver of the request channel, and the [`Queue`] filled from the channel.
pub(crate) struct Backlog {
    receiver: mpsc::Receiver<Arc<dyn Job>>,
    pub(crate) queue: Queue<Arc<dyn Job>>,
    /// The buffer of a read, kept to reuse the memory.
    batch: Vec<Arc<dyn Job>>,
}

impl Backlog {
    pub(crate) fn new(receiver: mpsc::Receiver<Arc<dyn Job>>, rules: Rules) -> Self {
        Self { receiver, queue: Queue::new(rules), batch: Vec::new() }
    }

    /// Reads the channel into the queue. Returns `Ready` once the channel is closed and empty;
    /// until then the next request wakes the drain task.
    pub(crate) fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let closed = loop {
            match self.receiver.poll_recv_many(cx, &mut batch, CHANNEL) {
                Poll::Ready(0) => break Poll::Ready(()),
                Poll::Ready(_) => batch.drain(..).for_each(|job| self.push(job)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.batch = batch;
        closed
    }

    /// Makes room in a full channel on behalf of the drain task, which cannot run since the callers
    /// do not yield.
    pub(crate) fn help(&mut self, live: usize) {
        self.read();
        // The drain task may have a request in hand, and put it back.
        self.queue.purge_left(live);
    }

    /// Reads the channel into the queue, on behalf of the drain task, which is woken by the next
    /// request all the same.
    pub(crate) fn read(&mut self) {
        while let Ok(job) = self.receiver.try_recv() {
            self.push(job);
        }
    }

    #[inline]
    fn push(&mut self, job: Arc<dyn Job>) {
        if job.is_gone() {
            return;
        }
        self.queue.push(job.inner_id(), job.rank(), job.admitted(), job);
    }

    /// Takes the oldest request of the longest flow of the lowest priority, or else an unread
    /// request. `gone` as for [`Queue::summaries`].
    pub(crate) fn pop_oldest(&mut self, gone: &Gone) -> Option<Arc<dyn Job>> {
        if let Some(entry) = self.queue.pop_oldest(gone) {
            return Some(entry.item);
        }
        std::iter::from_fn(|| self.receiver.try_recv().ok()).find(|job| !job.is_gone())
    }

    /// Takes all requests of an inner, oldest first, also those that have not been read.
    pub(crate) fn take_all_of(&mut self, inner: InnerId) -> Vec<Arc<dyn Job>> {
        self.read();
        self.queue.take_all_of(inner).into_iter().map(|entry| entry.item).collect()
    }

    /// Returns the admission time of the oldest of `live` requests.
    pub(crate) fn oldest_admitted(&mut self, live: usize) -> Option<Instant> {
        // Those that nobody has read yet are younger than all others.
        let read = self.queue.oldest(0);
        read.or_else(|| {
            self.read();
            self.queue.oldest(live)
        })
    }
}
