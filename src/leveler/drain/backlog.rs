use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use crate::leveler::{places::CHANNEL, queued::Job};
use crate::{
    class::Priority,
    queue::{
        Charge, ChargeId, Entry, Expiry, FairQueue, InnerId, LevelSummary, Next, Rules, Times,
        Victim,
    },
};

pub(crate) type Queued = Entry<Arc<dyn Job>>;

/// All that waits: what is still in the channel, and the line.
pub(crate) struct Backlog {
    receiver: mpsc::Receiver<Arc<dyn Job>>,
    line: FairQueue<Arc<dyn Job>>,
    expiry: Expiry<Arc<dyn Job>>,
    batch: Vec<Arc<dyn Job>>,
}

impl Backlog {
    pub(crate) fn new(receiver: mpsc::Receiver<Arc<dyn Job>>, rules: Rules) -> Self {
        Self { receiver, line: FairQueue::new(rules), expiry: Expiry::new(), batch: Vec::new() }
    }

    /// Reads what is in the channel into the line. `Ready` when the channel is closed and empty;
    /// otherwise the drain task will be woken by the next request.
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

    /// Makes room in a full channel when the drain task does not come to it: the callers do not yield.
    pub(crate) fn help(&mut self, live: usize) {
        while let Ok(job) = self.receiver.try_recv() {
            self.push(job);
        }
        self.line.purge(live);
        // The drain task may have one in hand.
        self.expiry.purge(live, |job| job.has_left());
    }

    fn push(&mut self, job: Arc<dyn Job>) {
        if job.is_gone() {
            return;
        }
        if let Some(late) = job.late() {
            self.expiry.push(late.at, Arc::clone(&job));
        }
        self.line.push(job.lane(), job.rank(), job.admitted(), job);
    }

    pub(crate) fn pop(&mut self, now: Instant, times: &Times) -> Option<Next<Arc<dyn Job>>> {
        self.line.pop(now, times)
    }

    pub(crate) fn put_back(&mut self, entry: Queued, charge: &Charge) {
        self.line.refund(charge);
        self.line.put_back(entry);
    }

    pub(crate) fn stall(&mut self, entry: Queued, charge: &Charge) {
        self.line.refund(charge);
        self.line.park(entry);
    }

    pub(crate) fn refund(&mut self, charge: &Charge) {
        self.line.refund(charge);
    }

    pub(crate) fn keep_charge(&mut self, charge: &Charge) {
        self.line.keep_charge(charge);
    }

    pub(crate) fn settle(&mut self, id: ChargeId, time: Duration) {
        self.line.settle(id, time);
    }

    pub(crate) fn shapes(&mut self) -> Option<[LevelSummary; Priority::ALL.len()]> {
        self.line.summaries()
    }

    pub(crate) fn pop_for_another(&mut self) -> Option<Victim<Arc<dyn Job>>> {
        self.line.pop_for_another()
    }

    pub(crate) fn wake(&mut self, inner: InnerId) {
        self.line.wake(inner);
    }

    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<Arc<dyn Job>> {
        self.expiry.pop(now)
    }

    pub(crate) fn next_late(&mut self) -> Option<Instant> {
        self.expiry.next()
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<Arc<dyn Job>> {
        if let Some(entry) = self.line.pop_oldest() {
            return Some(entry.item);
        }
        std::iter::from_fn(|| self.receiver.try_recv().ok()).find(|job| !job.is_gone())
    }

    pub(crate) fn oldest_admitted(&mut self) -> Option<Instant> {
        while let Ok(job) = self.receiver.try_recv() {
            self.push(job);
        }
        self.line.oldest().map(|entry| entry.admitted)
    }

    /// Drops what has gone; for the drain task, which has nothing in hand now.
    pub(crate) fn purge(&mut self, live: usize) {
        self.line.purge(live);
        self.expiry.purge(live, |job| job.is_gone());
    }
}
