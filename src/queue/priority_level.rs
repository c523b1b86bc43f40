//! The requests of a priority, fair between flows.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    charge::{Charge, Estimate},
    flow_limit::FlowLimit,
    flow_queue::FlowQueue,
    flow_table::FlowTable,
    in_use::InUse,
    item::{Entry, Hold, InnerId, QueueId, QueueItem},
    level_summary::{LevelSummary, LongestFlow, PassedOver},
    request_deque::{RequestDeque, Taken},
    rules::Rules,
    tombstones::is_worth_looking,
    turns::Turns,
};
use crate::class::NO_FLOW;

/// The queues of a priority, in the order of virtual time.
///
/// [`FlowTable`] finds the queue of a request, and [`Turns`] finds the next queue: the queue with
/// the least use of the inner's time (start-time fair queueing). A dispatched request is charged to
/// its queue by an [`Estimate`]. When the call ends, the real time corrects the charge.
#[derive(Debug)]
pub(super) struct PriorityLevel<T> {
    table: FlowTable<T>,
    turns: Turns,
    in_use: InUse,
    /// The cancelled or removed weight when the tombstones of the shared queues were last dropped.
    shared_purged_at: u64,
    /// The same, of all queues.
    purged_at: u64,
}

impl<T: QueueItem> PriorityLevel<T> {
    pub(super) fn new() -> Self {
        let (table, turns, in_use) = (FlowTable::new(), Turns::default(), InUse::default());
        Self { table, turns, in_use, shared_purged_at: 0, purged_at: 0 }
    }

    /// The number of entries, tombstones included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.in_use.len
    }

    /// Returns whether the level has an eligible request.
    #[inline]
    pub(super) fn may_go(&self) -> bool {
        self.turns.active() > 0
    }

    /// The number of queues, empty or not.
    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.table.len()
    }

    /// Returns whether the level has queues beside the queue of requests without a flow.
    #[inline]
    pub(super) fn has_flows(&self) -> bool {
        self.table.len() > 1
    }

    /// Returns whether several queues have entries, and the longest can give way to the rest.
    pub(super) fn has_several(&self) -> bool {
        self.in_use.queues > 1
    }

    /// Returns whether the longest queue weighs more than its share.
    pub(super) fn is_uneven(&mut self) -> bool {
        let Some((longest, id)) = self.turns.longest(&self.table) else { return false };
        let share = self.table.get(id).map_or(1, |queue| queue.share);
        longest * self.in_use.shares > self.turns.weight() * u64::from(share)
    }

    /// The state of the level. Unless `exact`, with rough bounds of the longest flow.
    pub(super) fn summary(&mut self, gone: u64, limit: &FlowLimit, exact: bool) -> LevelSummary {
        let (active, shares) = (self.turns.active(), self.turns.shares());
        let passed_over = self.passed_over(gone);
        let longest = LongestFlow { weight: self.turns.weight(), ..LongestFlow::default() };
        let rough = LevelSummary { active, shares, passed_over, longest, surely_longest: 0 };
        let found = if exact { self.longest(gone) } else { None };
        let Some((_, id)) = found else { return rough };
        let longest = self.longest_flow(gone, limit).unwrap_or_default();
        let surely_longest = longest.weight.saturating_sub(self.gone_since(id, gone));
        LevelSummary { longest, surely_longest, ..rough }
    }

    /// Returns the first flow to evict from.
    pub(super) fn longest_flow(&mut self, gone: u64, limit: &FlowLimit) -> Option<LongestFlow> {
        let (weight, id) = self.longest(gone)?;
        let FlowQueue { share, kind, .. } = *self.table.get(id)?;
        Some(LongestFlow { weight, share, is_held: limit.holds(kind.flow()) })
    }

    /// Returns the queue to evict from, and its weight. Drops the queue's tombstones first, since a
    /// queue may be the longest for its tombstones alone. `gone` is the weight of the level
    /// cancelled or removed so far.
    ///
    /// A long queue of which few requests can have gone is taken unchanged.
    fn longest(&mut self, gone: u64) -> Option<(u64, QueueId)> {
        loop {
            let (weight, id) = self.turns.longest(&self.table)?;
            let queue = self.table.get(id)?;
            let (since, is_shared) = (self.gone_since(id, gone), queue.kind.is_shared());
            let len = if is_shared { self.len() } else { queue.len };
            if !is_worth_looking(len, since) {
                return Some((weight, id));
            }
            if is_shared {
                self.shared_purged_at = gone;
                self.purge();
            } else {
                self.change(id, |queue| {
                    queue.requests.purge();
                    queue.purged_at = gone;
                });
            }
        }
    }

    /// Returns the requests to pass over, with few tombstones as in [`longest`](Self::longest).
    fn passed_over(&mut self, gone: u64) -> PassedOver {
        let since = gone.saturating_sub(self.purged_at);
        if self.turns.passed_over().requests > 0 && is_worth_looking(self.len(), since) {
            (self.purged_at, self.shared_purged_at) = (gone, gone);
            self.purge();
        }
        self.turns.passed_over()
    }

    /// Returns how much of a dedicated queue, or of all shared queues, may be tombstones.
    fn gone_since(&self, id: QueueId, gone: u64) -> u64 {
        let purged_at = match self.table.get(id) {
            Some(queue) if queue.kind.is_shared() => self.shared_purged_at,
            Some(queue) => queue.purged_at,
            None => gone,
        };
        gone.saturating_sub(purged_at)
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry<T>, is_proven: bool, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, is_proven, rules);
        let share = entry.rank.share;
        self.change(id, |queue| queue.requests.push(entry));
        if self.table.get(id).is_some_and(|queue| queue.share != share) {
            self.set_share(id, share);
        }
    }

    /// Sets the weight of a flow with a queue of its own.
    #[cold]
    fn set_share(&mut self, id: QueueId, share: u16) {
        let Some(queue) = self.table.get_mut(id).filter(|queue| !queue.kind.is_shared()) else {
            return;
        };
        let before = std::mem::replace(&mut queue.share, share);
        self.in_use.reweigh(queue, before);
        self.turns.reweigh(id, queue, before);
    }

    /// Takes in requests of cost 1 and without a flow. The level is empty.
    pub(super) fn adopt(&mut self, entries: VecDeque<Entry<T>>) {
        let id = self.table.flowless_id();
        if !entries.is_empty() {
            self.set_share(id, 1);
        }
        self.change(id, |queue| queue.requests.adopt(entries));
    }

    /// Returns the queue of a flow, a new queue if need be.
    #[inline(always)]
    fn queue_for(&mut self, flow: u64, is_proven: bool, rules: &Rules) -> QueueId {
        if flow == NO_FLOW {
            return self.table.flowless_id();
        }
        let id = self.table.find(flow, is_proven);
        id.unwrap_or_else(|| self.assign(flow, is_proven, rules))
    }

    /// Gives a queue to a flow without a dedicated queue.
    fn assign(&mut self, flow: u64, is_proven: bool, rules: &Rules) -> QueueId {
        if self.table.count_new_flow() {
            self.forget_idle();
        }
        if !is_proven && !self.table.has_room_for_unproven(rules) {
            self.share_unproven();
        }
        self.table.assign(flow, is_proven, self.turns.is_sharing(), rules)
    }

    /// Moves the requests of all unproven flows to shared queues: with so many flows, a client may
    /// be inventing them.
    fn share_unproven(&mut self) {
        let mut entries: Vec<Entry<T>> = Vec::new();
        for id in self.table.unproven() {
            let Some(queue) = self.table.remove(id) else { continue };
            self.in_use.update(queue.len, 0, queue.share);
            self.turns.remove(id, &queue);
            let mut requests = queue.requests;
            entries.extend(std::iter::from_fn(|| requests.pop_oldest()));
        }
        entries.sort_by_key(|entry| entry.seq);
        for entry in entries {
            let id = self.table.assign_shared(entry.rank.flow);
            self.change(id, |queue| queue.requests.push(entry));
        }
    }

    /// Forgets the empty queues with a virtual time no later than the virtual clock. A queue ahead
    /// of the clock stays: otherwise its flow would come back with a clean slate.
    pub(super) fn forget_idle(&mut self) {
        let turns = &self.turns;
        self.table.forget_idle(|queue| queue.virtual_time <= turns.virtual_clock(queue.kind));
    }

    /// Forgets all flows of an empty level, if the flows are many.
    pub(super) fn forget_if_empty(&mut self) {
        if self.len() == 0 && self.table.has_many_flows() {
            self.table.forget_idle(|_| true);
        }
    }

    /// Changes a queue, and records the change where the queue is counted.
    #[inline]
    fn change<R>(&mut self, id: QueueId, change: impl FnOnce(&mut FlowQueue<T>) -> R) -> Option<R> {
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

    /// Puts back a popped request for want of slots.
    pub(super) fn put_back(&mut self, entry: Entry<T>, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.change(id, |queue| queue.requests.put_back(entry));
    }

    /// Parks a popped request of an unready inner. Returns the id of the queue.
    pub(super) fn park(&mut self, entry: Entry<T>, rules: &Rules) -> QueueId {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.change(id, |queue| queue.requests.park(Hold::Inner(entry.inner), entry));
        id
    }

    /// Makes the queue's parked requests of an inner eligible again.
    pub(super) fn wake(&mut self, id: QueueId, inner: InnerId) {
        self.change(id, |queue| queue.requests.wake(Hold::Inner(inner)));
    }

    /// The flow of the next queue, if the queue is dedicated to a flow.
    pub(super) fn first_flow(&self) -> Option<(QueueId, u64)> {
        let id = self.turns.first()?;
        Some((id, self.table.get(id)?.kind.flow()?))
    }

    /// Passes over a queue dedicated to a flow, until [`unhold`](Self::unhold).
    pub(super) fn hold(&mut self, id: QueueId) {
        self.change(id, |queue| queue.is_held = true);
    }

    /// Passes over a popped request without room in its flow, and over the flow, until
    /// [`unhold`](Self::unhold). Then the request is the next of its flow. Returns the queue.
    pub(super) fn hold_back(&mut self, entry: Entry<T>, rules: &Rules) -> QueueId {
        let flow = entry.rank.flow;
        let id = self.queue_for(flow, false, rules);
        let is_shared = self.change(id, |queue| queue.hold_back(entry));
        if is_shared == Some(false) {
            self.hold(id);
        }
        id
    }

    /// Makes the requests of a flow in the queue eligible again.
    pub(super) fn unhold(&mut self, id: QueueId, flow: u64) {
        self.change(id, |queue| {
            // The id may belong to a later queue.
            queue.is_held &= queue.kind.flow() != Some(flow);
            queue.requests.wake(Hold::Flow(flow));
        });
    }

    /// Returns whether live requests of an inner are parked in the queue.
    pub(super) fn has_parked(&mut self, id: QueueId, inner: InnerId) -> bool {
        self.change(id, |queue| queue.requests.has_parked(inner)).unwrap_or(false)
    }

    /// Takes the oldest live request of the longest queue.
    pub(super) fn pop_oldest(&mut self, gone: u64) -> Option<Entry<T>> {
        self.pop_longest(gone, RequestDeque::pop_oldest)
    }

    /// Takes the newest live request of the longest queue.
    pub(super) fn pop_newest(&mut self, gone: u64) -> Option<Entry<T>> {
        self.pop_longest(gone, |requests| requests.pop_newest().or_else(|| requests.pop_oldest()))
    }

    fn pop_longest(
        &mut self,
        gone: u64,
        pop: impl Fn(&mut RequestDeque<T>) -> Option<Entry<T>>,
    ) -> Option<Entry<T>> {
        while self.len() > 0 {
            let (_, id) = self.longest(gone)?;
            let entry = self.change(id, |queue| pop(&mut queue.requests))??;
            // Tombstones made the queue seem too long. Look for the longest again.
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
        None
    }

    /// Takes all requests of an inner.
    pub(super) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        let ids = self.table.ids();
        ids.filter_map(|id| self.change(id, |queue| queue.requests.take_all_of(inner)))
            .flatten()
            .collect()
    }

    /// The oldest live request.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        self.table.iter().filter_map(|queue| queue.requests.oldest()).min_by_key(|entry| entry.seq)
    }

    /// Drops the tombstones.
    pub(super) fn purge(&mut self) {
        for id in self.table.ids() {
            self.change(id, |queue| queue.requests.purge());
        }
    }
}
