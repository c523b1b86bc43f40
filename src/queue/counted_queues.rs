//! The queues of a priority level, with the counts kept of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    charge::{Charge, Estimate},
    flow_queue::FlowQueue,
    flow_table::FlowTable,
    in_use::InUse,
    item::{Entry, QueueId, QueueItem},
    request_deque::Taken,
    rules::Rules,
    turns::Turns,
};

/// The queues of a priority level. Each change of a queue is counted where it matters: in the order
/// of the [`Turns`], and in the sums of [`InUse`].
#[derive(Debug)]
pub(super) struct CountedQueues<T> {
    pub(super) table: FlowTable<T>,
    pub(super) turns: Turns,
    pub(super) in_use: InUse,
}

impl<T: QueueItem> CountedQueues<T> {
    pub(super) fn new() -> Self {
        Self { table: FlowTable::new(), turns: Turns::default(), in_use: InUse::default() }
    }

    /// Returns whether a request for the queue changes no turn, as one more of many: the queue
    /// waits already, with the weight `share`.
    #[inline]
    pub(super) fn takes_plain(&self, id: QueueId, share: u16) -> bool {
        self.table.get(id).is_some_and(|queue| queue.is_active && queue.share == share)
    }

    /// Adds the newest request, if the queue [takes](Self::takes_plain) the request.
    #[inline]
    pub(super) fn push_plain(&mut self, id: QueueId, entry: Entry<T>) {
        let Self { table, turns, in_use } = self;
        let Some(queue) = table.get_mut(id) else { return };
        turns.on_pushed(id, queue, entry.weight());
        in_use.len += 1;
        queue.len += 1;
        queue.requests.push_newest(entry);
    }

    /// Changes a queue, and records the change where the queue is counted.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        id: QueueId,
        change: impl FnOnce(&mut FlowQueue<T>) -> R,
    ) -> Option<R> {
        let queue = self.table.get_mut(id)?;
        let before = queue.virtual_time;
        let result = change(queue);
        self.count(id, before);
        Some(result)
    }

    /// Records a change of a queue where the queue is counted. The virtual time was `before`.
    #[inline]
    fn count(&mut self, id: QueueId, before: u64) {
        let Some(queue) = self.table.get_mut(id) else { return };
        let (weight, len) = (queue.requests.weight(), queue.requests.len());
        self.in_use.update(queue.len, len, queue.share);
        queue.len = len;
        self.turns.update(id, queue, weight, before);
    }

    /// The charge of the next request, at a cost of 1.
    pub(super) fn estimate(&self, service: impl FnOnce() -> Option<Duration>) -> f64 {
        let queue = self.turns.first().and_then(|id| self.table.get(id));
        queue.map(|queue| queue.estimate).unwrap_or_default().nanos(service)
    }

    /// Takes the next request, and charges the queue unless `is_free`.
    #[inline]
    pub(super) fn take(
        &mut self,
        now: Instant,
        rules: &Rules,
        service: impl Fn() -> Option<Duration>,
        is_free: bool,
    ) -> Option<(Taken<T>, Charge)> {
        let id = self.turns.first()?;
        let queue = self.table.get_mut(id)?;
        let (before, kind) = (queue.virtual_time, queue.kind);
        let taken = queue.requests.take(now, rules, &service);
        let charge = match &taken {
            Some(Taken::Next(entry)) => queue.charge_for(id, entry.rank, service, is_free),
            _ => Charge::default(),
        };
        self.count(id, before);
        if charge.nanos > 0 {
            self.turns.charge(kind, before, charge.nanos);
        }
        Some((taken?, charge))
    }

    /// Charges the queue of the next request, and counts the request out, if the request is live,
    /// only the order of arrival decides within the queue, and `is_mine` returns true for the
    /// request: `Some(None)` if not mine. [`pop_charged`](Self::pop_charged) then has to follow.
    /// `None` leaves the choice to [`take`](Self::take).
    #[inline(always)]
    pub(super) fn charge_plain(
        &mut self,
        service: impl FnOnce() -> Option<Duration>,
        is_free: bool,
        is_mine: impl FnOnce(&T) -> bool,
    ) -> Option<Option<Charge>> {
        let Self { table, turns, in_use } = self;
        let id = turns.first()?;
        let queue = table.get_mut(id)?;
        let Entry { rank, item, .. } = queue.requests.first_plain()?;
        if !is_mine(item) {
            return Some(None);
        }
        let (rank, before) = (*rank, queue.virtual_time);
        let charge = queue.charge_for(id, rank, service, is_free);
        queue.len -= 1;
        in_use.update(queue.len + 1, queue.len, queue.share);
        turns.on_taken(id, queue, rank.cost.into(), before);
        if charge.nanos > 0 {
            turns.charge(queue.kind, before, charge.nanos);
        }
        Some(Some(charge))
    }

    /// Takes the request that was charged. Apart from the charge, so the request moves once.
    #[inline(always)]
    pub(super) fn pop_charged(&mut self, charge: &Charge) -> Option<Entry<T>> {
        self.table.get_mut(charge.queue)?.requests.pop_first()
    }

    /// Takes back the charge of a request after its dispatch failed.
    pub(super) fn refund(&mut self, charge: &Charge) {
        self.correct(charge, |_| 0);
    }

    /// Corrects a charge by the real time of the request.
    pub(super) fn settle(&mut self, charge: &Charge, service_time: Duration) {
        self.correct(charge, |estimate| estimate.settle(service_time, charge.cost));
    }

    fn correct(&mut self, charge: &Charge, nanos: impl FnOnce(&mut Estimate) -> u64) {
        let Some(queue) = self.table.paying(charge) else { return };
        let (before, nanos) = (queue.virtual_time, nanos(&mut queue.estimate));
        if nanos != charge.nanos {
            queue.correct(charge.nanos, nanos, charge.share);
            self.turns.correct(queue.kind, charge.nanos, nanos);
            self.turns.update(charge.queue, queue, queue.weight, before);
        }
    }
}
