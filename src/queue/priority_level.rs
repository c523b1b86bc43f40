//! The requests of a priority, fair between flows.

use std::collections::VecDeque;

use super::{
    counted_queues::CountedQueues,
    flow_limit::FlowLimit,
    flow_queue::FlowQueue,
    item::{Entry, Hold, InnerId, QueueId, QueueItem},
    level_summary::{LevelSummary, LongestFlow, PassedOver},
    request_deque::RequestDeque,
    rules::Rules,
    tombstones::is_worth_looking,
};
use crate::class::NO_FLOW;

/// The queues of a priority, in the order of virtual time.
///
/// A [`FlowTable`](super::flow_table::FlowTable) finds the queue of a request, and
/// [`Turns`](super::turns::Turns) find the next queue: the queue with the least use of the inner's
/// time (start-time fair queueing). A dispatched request is charged to its queue by an
/// [`Estimate`](super::charge::Estimate). When the call ends, the real time corrects the charge.
#[derive(Debug)]
pub(super) struct PriorityLevel<T> {
    pub(super) queues: CountedQueues<T>,
    /// The cancelled or removed weight when the tombstones of the shared queues were last dropped.
    shared_purged_at: u64,
    /// The same, of all queues.
    purged_at: u64,
}

impl<T: QueueItem> PriorityLevel<T> {
    pub(super) fn new() -> Self {
        Self { queues: CountedQueues::new(), shared_purged_at: 0, purged_at: 0 }
    }

    /// The number of entries, tombstones included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.queues.in_use.len
    }

    /// Returns whether the level has an eligible request.
    #[inline]
    pub(super) fn may_go(&self) -> bool {
        self.queues.turns.active() > 0
    }

    /// The number of queues, empty or not.
    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.queues.table.len()
    }

    /// Returns whether the level has queues beside the queue of requests without a flow.
    #[inline]
    pub(super) fn has_flows(&self) -> bool {
        self.queues.table.len() > 1
    }

    /// Returns whether several queues have entries, and the longest can give way to the rest.
    pub(super) fn has_several(&self) -> bool {
        self.queues.in_use.queues > 1
    }

    /// Returns whether the longest queue weighs more than its share.
    pub(super) fn is_uneven(&mut self) -> bool {
        let Some((longest, id)) = self.queues.turns.longest(&self.queues.table) else {
            return false;
        };
        let share = self.queues.table.get(id).map_or(1, |queue| queue.share);
        longest * self.queues.in_use.shares > self.queues.turns.weight() * u64::from(share)
    }

    /// The state of the level. Unless `exact`, with rough bounds of the longest flow.
    pub(super) fn summary(&mut self, gone: u64, limit: &FlowLimit, exact: bool) -> LevelSummary {
        let (shares, passed_over) = (self.queues.turns.shares(), self.passed_over(gone));
        let longest = LongestFlow { weight: self.queues.turns.weight(), ..LongestFlow::default() };
        let rough = LevelSummary { shares, passed_over, longest, surely_longest: 0 };
        let found = if exact { self.longest(gone) } else { None };
        let Some((_, id)) = found else { return rough };
        let longest = self.longest_flow(gone, limit).unwrap_or_default();
        let surely_longest = longest.weight.saturating_sub(self.gone_since(id, gone));
        LevelSummary { longest, surely_longest, ..rough }
    }

    /// Returns the first flow to evict from.
    pub(super) fn longest_flow(&mut self, gone: u64, limit: &FlowLimit) -> Option<LongestFlow> {
        let (weight, id) = self.longest(gone)?;
        let FlowQueue { share, kind, .. } = *self.queues.table.get(id)?;
        Some(LongestFlow { weight, share, is_held: limit.holds(kind.flow()) })
    }

    /// Returns the queue to evict from, and its weight. Drops the queue's tombstones first, since a
    /// queue may be the longest for its tombstones alone. `gone` is the weight of the level
    /// cancelled or removed so far.
    ///
    /// A long queue of which few requests can have gone is taken unchanged.
    fn longest(&mut self, gone: u64) -> Option<(u64, QueueId)> {
        loop {
            let (weight, id) = self.queues.turns.longest(&self.queues.table)?;
            let queue = self.queues.table.get(id)?;
            let (since, is_shared) = (self.gone_since(id, gone), queue.kind.is_shared());
            let len = if is_shared { self.len() } else { queue.len };
            if !is_worth_looking(len, since) {
                return Some((weight, id));
            }
            if is_shared {
                self.shared_purged_at = gone;
                self.purge();
            } else {
                self.queues.change(id, |queue| {
                    queue.requests.purge();
                    queue.purged_at = gone;
                });
            }
        }
    }

    /// Returns the requests to pass over, with few tombstones as in [`longest`](Self::longest).
    fn passed_over(&mut self, gone: u64) -> PassedOver {
        let since = gone.saturating_sub(self.purged_at);
        if self.queues.turns.passed_over().requests > 0 && is_worth_looking(self.len(), since) {
            (self.purged_at, self.shared_purged_at) = (gone, gone);
            self.purge();
        }
        self.queues.turns.passed_over()
    }

    /// Returns how much of a dedicated queue, or of all shared queues, may be tombstones.
    fn gone_since(&self, id: QueueId, gone: u64) -> u64 {
        let purged_at = match self.queues.table.get(id) {
            Some(queue) if queue.kind.is_shared() => self.shared_purged_at,
            Some(queue) => queue.purged_at,
            None => gone,
        };
        gone.saturating_sub(purged_at)
    }

    /// Adds the newest request.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry<T>, is_proven: bool, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, is_proven, rules);
        let share = entry.rank.share;
        if self.queues.takes_plain(id, share) {
            return self.queues.push_plain(id, entry);
        }
        self.queues.change(id, |queue| queue.requests.push(entry));
        if self.queues.table.get(id).is_some_and(|queue| queue.share != share) {
            self.set_share(id, share);
        }
    }

    /// Sets the weight of a flow with a queue of its own.
    #[cold]
    fn set_share(&mut self, id: QueueId, share: u16) {
        let Some(queue) = self.queues.table.get_mut(id).filter(|queue| !queue.kind.is_shared())
        else {
            return;
        };
        let before = std::mem::replace(&mut queue.share, share);
        self.queues.in_use.reweigh(queue, before);
        self.queues.turns.reweigh(id, queue, before);
    }

    /// Takes in requests of cost 1 and without a flow. The level is empty.
    pub(super) fn adopt(&mut self, entries: VecDeque<Entry<T>>) {
        let id = self.queues.table.flowless_id();
        if !entries.is_empty() {
            self.set_share(id, 1);
        }
        self.queues.change(id, |queue| queue.requests.adopt(entries));
    }

    /// Returns the queue of a flow, a new queue if need be.
    #[inline(always)]
    fn queue_for(&mut self, flow: u64, is_proven: bool, rules: &Rules) -> QueueId {
        if flow == NO_FLOW {
            return self.queues.table.flowless_id();
        }
        let id = self.queues.table.find(flow, is_proven);
        id.unwrap_or_else(|| self.assign(flow, is_proven, rules))
    }

    /// Gives a queue to a flow without a dedicated queue.
    fn assign(&mut self, flow: u64, is_proven: bool, rules: &Rules) -> QueueId {
        if self.queues.table.count_new_flow() {
            self.forget_idle();
        }
        if !is_proven && !self.queues.table.has_room_for_unproven(rules) {
            self.share_unproven();
        }
        self.queues.table.assign(flow, is_proven, self.queues.turns.is_sharing(), rules)
    }

    /// Moves the requests of all unproven flows to shared queues: with so many flows, a client may
    /// be inventing them.
    fn share_unproven(&mut self) {
        let mut entries: Vec<Entry<T>> = Vec::new();
        for id in self.queues.table.unproven() {
            let Some(queue) = self.queues.table.remove(id) else { continue };
            self.queues.in_use.update(queue.len, 0, queue.share);
            self.queues.turns.remove(id, &queue);
            let mut requests = queue.requests;
            entries.extend(std::iter::from_fn(|| requests.pop_oldest()));
        }
        entries.sort_by_key(|entry| entry.seq);
        for entry in entries {
            let id = self.queues.table.assign_shared(entry.rank.flow);
            self.queues.change(id, |queue| queue.requests.push(entry));
        }
    }

    /// Forgets the empty queues with a virtual time no later than the virtual clock. A queue ahead
    /// of the clock stays: otherwise its flow would come back with a clean slate.
    pub(super) fn forget_idle(&mut self) {
        let turns = &self.queues.turns;
        self.queues
            .table
            .forget_idle(|queue| queue.virtual_time <= turns.virtual_clock(queue.kind));
    }

    /// Forgets all flows of an empty level, if the flows are many.
    pub(super) fn forget_if_empty(&mut self) {
        if self.len() == 0 && self.queues.table.has_many_queues() {
            self.queues.table.forget_idle(|_| true);
        }
    }

    /// Puts back a popped request for want of slots.
    pub(super) fn put_back(&mut self, entry: Entry<T>, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.queues.change(id, |queue| queue.requests.put_back(entry));
    }

    /// Parks a popped request of an unready inner. Returns the id of the queue.
    pub(super) fn park(&mut self, entry: Entry<T>, rules: &Rules) -> QueueId {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.queues.change(id, |queue| queue.requests.park(Hold::Inner(entry.inner), entry));
        id
    }

    /// Makes the queue's parked requests of an inner eligible again.
    pub(super) fn wake(&mut self, id: QueueId, inner: InnerId) {
        self.queues.change(id, |queue| queue.requests.wake(Hold::Inner(inner)));
    }

    /// The flow of the next queue, if the queue is dedicated to a flow.
    pub(super) fn first_flow(&self) -> Option<(QueueId, u64)> {
        let id = self.queues.turns.first()?;
        Some((id, self.queues.table.get(id)?.kind.flow()?))
    }

    /// Passes over a queue dedicated to a flow, until [`unhold`](Self::unhold).
    pub(super) fn hold(&mut self, id: QueueId) {
        self.queues.change(id, |queue| queue.is_held = true);
    }

    /// Passes over a popped request without room in its flow, and over the flow, until
    /// [`unhold`](Self::unhold). Then the request is the next of its flow. Returns the queue.
    pub(super) fn hold_back(&mut self, entry: Entry<T>, rules: &Rules) -> QueueId {
        let flow = entry.rank.flow;
        let id = self.queue_for(flow, false, rules);
        let is_shared = self.queues.change(id, |queue| queue.hold_back(entry));
        if is_shared == Some(false) {
            self.hold(id);
        }
        id
    }

    /// Makes the requests of a flow in the queue eligible again.
    pub(super) fn unhold(&mut self, id: QueueId, flow: u64) {
        self.queues.change(id, |queue| {
            // The id may belong to a later queue.
            queue.is_held &= queue.kind.flow() != Some(flow);
            queue.requests.wake(Hold::Flow(flow));
        });
    }

    /// Returns whether live requests of an inner are parked in the queue.
    pub(super) fn has_parked(&mut self, id: QueueId, inner: InnerId) -> bool {
        self.queues.change(id, |queue| queue.requests.has_parked(inner)).unwrap_or(false)
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
            let entry = self.queues.change(id, |queue| pop(&mut queue.requests))??;
            // Tombstones made the queue seem too long. Look for the longest again.
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
        None
    }

    /// Takes all requests of an inner.
    pub(super) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        let ids = self.queues.table.ids();
        ids.filter_map(|id| self.queues.change(id, |queue| queue.requests.take_all_of(inner)))
            .flatten()
            .collect()
    }

    /// The oldest live request.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        self.queues
            .table
            .iter()
            .filter_map(|queue| queue.requests.oldest())
            .min_by_key(|entry| entry.seq)
    }

    /// Drops the tombstones.
    pub(super) fn purge(&mut self) {
        for id in self.queues.table.ids() {
            self.queues.change(id, |queue| queue.requests.purge());
        }
    }
}
