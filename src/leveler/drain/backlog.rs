//! The requests that wait, read or unread.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use crate::leveler::{places::CHANNEL, queued::Job};
use crate::{
    class::Priority,
    queue::{Charge, ChargeId, Entry, InnerId, LevelSummary, Next, Queue, Rules, Times, Victim},
};

pub(crate) type Queued = Entry<Arc<dyn Job>>;

/// The receiver of the channel in which requests are sent, and the [`Queue`] into which they are
/// read.
pub(crate) struct Backlog {
    receiver: mpsc::Receiver<Arc<dyn Job>>,
    queue: Queue<Arc<dyn Job>>,
    /// The buffer of a read, kept for its memory.
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

    /// Makes room in a full channel on behalf of the drain task, which does not get to run since
    /// the callers do not yield.
    pub(crate) fn help(&mut self, live: usize) {
        self.read();
        // The drain task may have a request in hand, and put it back.
        self.queue.purge_left(live);
    }

    fn read(&mut self) {
        while let Ok(job) = self.receiver.try_recv() {
            self.push(job);
        }
    }

    fn push(&mut self, job: Arc<dyn Job>) {
        if job.is_gone() {
            return;
        }
        self.queue.push(job.lane(), job.rank(), job.admitted(), job);
    }

    pub(crate) fn pop(&mut self, now: Instant, times: &Times) -> Option<Next<Arc<dyn Job>>> {
        self.queue.pop(now, times)
    }

    pub(crate) fn put_back(&mut self, entry: Queued, charge: &Charge) {
        self.queue.put_back(entry, charge);
    }

    pub(crate) fn stall(&mut self, entry: Queued, charge: &Charge) {
        self.queue.park(entry, charge);
    }

    pub(crate) fn refund(&mut self, charge: &Charge) {
        self.queue.refund(charge);
    }

    pub(crate) fn keep_charge(&mut self, charge: &Charge) {
        self.queue.keep_charge(charge);
    }

    pub(crate) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        self.queue.settle(id, service_time);
    }

    pub(crate) fn shapes(&mut self) -> Option<[LevelSummary; Priority::ALL.len()]> {
        self.queue.summaries()
    }

    pub(crate) fn pop_for_another(&mut self) -> Option<Victim<Arc<dyn Job>>> {
        self.queue.evict()
    }

    pub(crate) fn wake(&mut self, inner: InnerId) {
        self.queue.wake(inner);
    }

    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<Arc<dyn Job>> {
        self.queue.pop_late(now)
    }

    pub(crate) fn next_late(&mut self) -> Option<Instant> {
        self.queue.next_late()
    }

    /// Takes the oldest request of the longest flow of the lowest priority, or else an unread one.
    pub(crate) fn pop_oldest(&mut self) -> Option<Arc<dyn Job>> {
        if let Some(entry) = self.queue.pop_oldest() {
            return Some(entry.item);
        }
        std::iter::from_fn(|| self.receiver.try_recv().ok()).find(|job| !job.is_gone())
    }

    /// Returns when the oldest request was admitted.
    pub(crate) fn oldest_admitted(&mut self) -> Option<Instant> {
        self.read();
        self.queue.oldest().map(|entry| entry.admitted)
    }

    /// Drops the tombstones, on the drain task, which has no request in hand now.
    pub(crate) fn purge(&mut self, live: usize) {
        self.queue.purge(live);
    }
}
