//! The order in which requests leave the queue.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    arrival_order::ArrivalOrder,
    charge::{Charge, ChargeId},
    eviction::evict,
    flow_limit::{FlowLimit, FlowRight, Woken},
    heavy_hitters::HeavyHitters,
    item::{Entry, InnerId, QueueId, QueueItem},
    level_summary::{Gone, Summaries},
    levels::Levels,
    next::{Next, Times, Victim},
    priority_level::PriorityLevel,
    request_deque::Taken,
    rules::Rules,
    tombstones::PURGE_ABOVE,
};
use crate::{
    class::{NO_FLOW, Priority, Rank},
    error::Reason,
};

/// The requests in the order of dispatch: a [`PriorityLevel`] for each priority, or the
/// [`ArrivalOrder`] while all requests are alike.
///
/// Every operation is O(log n) in the number of flows or of unready inner services. Gone requests
/// leave tombstones, dropped at their turn or by [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    rules: Rules,
    /// While on, holds all requests, and the levels are empty.
    arrival_order: ArrivalOrder<T>,
    pub(super) levels: Levels<T>,
    flow_limit: FlowLimit,
    heavy_hitters: HeavyHitters,
    /// The unready inner services, each with the queues of its parked requests, as level and id.
    pub(super) blocked: HashMap<InnerId, BTreeSet<(usize, QueueId)>>,
    next_seq: u64,
    /// Set once a request with a flow has come.
    has_flows: bool,
    /// Set if the last summaries told of unready inners.
    has_told_unready: bool,
}

impl<T: QueueItem> FairQueue<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            arrival_order: ArrivalOrder::new(&rules),
            levels: Levels::new(rules.guaranteed_share),
            flow_limit: FlowLimit::new(rules.flow_limit),
            heavy_hitters: HeavyHitters::new(),
            blocked: HashMap::new(),
            next_seq: 0,
            has_flows: false,
            has_told_unready: false,
        }
    }

    /// Adds a request.
    #[inline]
    pub(crate) fn push(&mut self, inner: InnerId, rank: Rank, admitted: Instant, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        // The entry is made in each branch: made before, it would be copied once more.
        if self.arrival_order.takes(rank) {
            self.arrival_order.push(Entry { seq, inner, rank, admitted, item });
        } else {
            self.push_ranked(Entry { seq, inner, rank, admitted, item });
        }
    }

    /// Adds a request that may differ from the other requests.
    fn push_ranked(&mut self, entry: Entry<T>) {
        self.end_arrival_order();
        let rank = entry.rank;
        let level = rank.priority.index();
        let is_proven = match rank.flow {
            NO_FLOW => true,
            flow => {
                self.has_flows = true;
                // Flows are spread over all bits. Each level has other cells and tags.
                self.heavy_hitters.observe(flow ^ (level as u64 * (1 << 32 | 1)))
            }
        };
        self.levels.each[level].push(entry, is_proven, &self.rules);
    }

    /// Moves all requests to their level. From now on the levels order the requests, until none
    /// waits.
    fn end_arrival_order(&mut self) {
        if self.arrival_order.is_on() {
            let entries = self.arrival_order.end();
            if self.next_seq > 1 {
                self.levels.each[Priority::default().index()].adopt(entries);
            }
        }
    }

    /// Returns to the order of arrival if nothing waits, and no flow or debt affects the order.
    fn begin_arrival_order(&mut self) {
        let is_even = !self.has_flows && !self.levels.is_owing();
        if is_even && self.levels.len() == 0 {
            self.blocked.clear();
            self.arrival_order.begin();
        }
    }

    /// Takes the next request. `charge` is empty before. For a request to dispatch it records what
    /// flow and level were charged; if the dispatch fails, [`refund`](Self::refund) the charge.
    #[inline]
    pub(crate) fn pop(
        &mut self,
        now: Instant,
        times: &impl Times,
        charge: &mut Charge,
    ) -> Option<Next<T>> {
        if self.arrival_order.is_on() {
            return self.arrival_order.pop().map(Next::Dispatch);
        }
        let plain = if self.is_by_rank() { self.pop_plain(times, |_| true, charge) } else { None };
        match plain {
            Some(taken) => taken.map(Next::Dispatch),
            None => self.pop_ranked(now, times, charge),
        }
    }

    /// Takes the next request if requests go in the order of arrival, and `is_mine` returns true.
    #[inline]
    pub(crate) fn pop_in_order(&mut self, is_mine: impl FnOnce(&T) -> bool) -> Option<Entry<T>> {
        self.arrival_order.pop_if(is_mine)
    }

    /// Returns whether priority and flow have a say in which request is next, and neither the age
    /// of requests nor the limit of flows.
    pub(crate) fn is_by_rank(&self) -> bool {
        !self.arrival_order.is_on() && self.rules.is_plain() && !self.flow_limit.is_on()
    }

    /// Takes the next request, if requests go [by rank](Self::is_by_rank), nothing else has a say,
    /// and `is_mine` returns true for the request: `Some(None)` if not mine, and then nothing has
    /// changed. `None` leaves the choice to [`pop_ranked`](Self::pop_ranked). Made for speed: most
    /// requests go this way.
    #[inline(always)]
    pub(crate) fn pop_plain(
        &mut self,
        times: &impl Times,
        is_mine: impl FnOnce(&T) -> bool,
        charge: &mut Charge,
    ) -> Option<Option<Entry<T>>> {
        if !self.blocked.is_empty() {
            return None;
        }
        let Some((entry, made)) = self.levels.take_plain(times, is_mine)? else {
            return Some(None);
        };
        *charge = made;
        Some(Some(entry))
    }

    /// Takes the next request while the order of arrival is off. `charge` as for
    /// [`pop`](Self::pop).
    pub(crate) fn pop_ranked(
        &mut self,
        now: Instant,
        times: &impl Times,
        charge: &mut Charge,
    ) -> Option<Next<T>> {
        loop {
            let Some(next) = self.levels.next(times) else {
                self.begin_arrival_order();
                return None;
            };
            let level = next.index;
            let is_limited = self.flow_limit.is_on();
            if is_limited && self.hold_first(level) {
                continue;
            }
            let is_free = self.levels.is_free(next);
            let queues = &mut self.levels.each[level].queues;
            let taken = queues.take(now, &self.rules, || times.of(level), is_free);
            // The queue held only tombstones, all dropped now.
            let Some((taken, made)) = taken else { continue };
            let entry = match taken {
                Taken::Tombstone => continue,
                Taken::Overdue(entry) => return Some(Next::Remove(entry, Reason::Delay)),
                Taken::Next(entry) => entry,
            };
            if !self.blocked.is_empty() && self.is_blocked(entry.inner) {
                self.levels.each[level].queues.refund(&made);
                self.park(entry);
                continue;
            }
            *charge = made;
            if is_limited && entry.rank.flow != NO_FLOW {
                charge.right = self.flow_limit.take(entry.rank.flow, entry.most_slots());
                if charge.right.is_none() {
                    self.levels.each[level].queues.refund(&std::mem::take(charge));
                    self.hold_back(entry);
                    continue;
                }
            }
            self.levels.complete(next, charge, is_free);
            return Some(Next::Dispatch(entry));
        }
    }

    /// Passes over the next queue of a level if its flow runs as much as it may, and returns
    /// whether it does. The requests of a dedicated queue then need not be parked singly.
    fn hold_first(&mut self, level: usize) -> bool {
        let first = self.levels.each[level].first_flow();
        let Some((id, flow)) = first.filter(|(_, flow)| self.flow_limit.is_full(*flow)) else {
            return false;
        };
        self.levels.each[level].hold(id);
        self.flow_limit.hold(flow, level, id);
        true
    }

    /// Passes over a popped request without room in its flow, and over the flow, until one of the
    /// flow's calls ends, or the request leaves.
    fn hold_back(&mut self, entry: Entry<T>) {
        let (flow, level) = (entry.rank.flow, entry.rank.priority.index());
        let id = self.levels.each[level].hold_back(entry, &self.rules);
        self.flow_limit.hold(flow, level, id);
    }

    /// Takes back an ended call's right to run in its flow.
    pub(crate) fn give_back(&mut self, right: FlowRight) {
        if let Some(woken) = self.flow_limit.give_back(right) {
            self.unhold(woken);
        }
    }

    /// Looks at a flow again after a heavy request has left: the flow may be held for the request.
    pub(crate) fn on_left(&mut self, flow: u64) {
        if let Some(woken) = self.flow_limit.release(flow) {
            self.unhold(woken);
        }
    }

    /// Sets the most slots for each flow. Running calls go on.
    pub(crate) fn set_flow_limit(&mut self, limit: Option<usize>) {
        self.flow_limit.set(limit).into_iter().for_each(|woken| self.unhold(woken));
    }

    fn unhold(&mut self, (flow, queues): Woken) {
        for (level, id) in queues {
            self.levels.each[level].unhold(id, flow);
        }
    }

    /// The limit on the running calls of each flow.
    pub(crate) fn flow_limit(&mut self) -> &mut FlowLimit {
        &mut self.flow_limit
    }

    /// Takes back the charge of a request after its dispatch failed, and the right to run in its
    /// flow.
    pub(crate) fn refund(&mut self, charge: &Charge) {
        charge.right.into_iter().for_each(|right| self.give_back(right));
        self.levels.refund(charge);
    }

    /// Closes the charge of a dispatched request as an estimate: the real time will not be known.
    pub(crate) fn keep_charge(&mut self, charge: &Charge) {
        self.levels.keep_charge(charge);
    }

    /// Corrects a charge by the real time of the request.
    pub(crate) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        self.levels.settle(id, service_time);
    }

    /// Parks a popped request of an unready inner. The queue passes over all requests of the inner
    /// until [`wake`](Self::wake).
    pub(crate) fn park(&mut self, entry: Entry<T>) {
        self.end_arrival_order();
        let (inner, level) = (entry.inner, entry.rank.priority.index());
        let id = self.levels.each[level].park(entry, &self.rules);
        self.blocked.entry(inner).or_default().insert((level, id));
    }

    /// Puts back a popped request for want of slots, as the next of its flow, even if lighter
    /// requests come.
    pub(crate) fn put_back(&mut self, entry: Entry<T>) {
        if self.arrival_order.takes(entry.rank) {
            self.arrival_order.put_back(entry);
            return;
        }
        self.end_arrival_order();
        self.levels.each[entry.rank.priority.index()].put_back(entry, &self.rules);
    }

    /// Makes the requests of an inner eligible again, since the inner may be ready.
    pub(crate) fn wake(&mut self, inner: InnerId) {
        for (level, id) in self.blocked.remove(&inner).unwrap_or_default() {
            self.levels.each[level].wake(id, inner);
        }
    }

    /// Returns whether the inner was found unready and has live parked requests. Without live
    /// requests the inner is polled again: its waker may have been replaced by then.
    pub(super) fn is_blocked(&mut self, inner: InnerId) -> bool {
        let Some(queues) = self.blocked.get_mut(&inner) else { return false };
        while let Some((level, id)) = queues.first().copied() {
            if self.levels.each[level].has_parked(id, inner) {
                return true;
            }
            queues.pop_first();
        }
        self.blocked.remove(&inner);
        false
    }

    /// Takes the oldest request of the longest queue of the lowest level.
    pub(crate) fn pop_oldest(&mut self, gone: &Gone) -> Option<Entry<T>> {
        if self.arrival_order.is_on() {
            return self.arrival_order.pop();
        }
        self.levels
            .each
            .iter_mut()
            .zip(gone)
            .rev()
            .find_map(|(level, gone)| level.pop_oldest(*gone))
    }

    /// Takes all requests of an inner, oldest first.
    pub(crate) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        self.end_arrival_order();
        let levels = self.levels.each.iter_mut();
        let mut taken: Vec<_> = levels.flat_map(|level| level.take_all_of(inner)).collect();
        self.blocked.remove(&inner);
        taken.iter().for_each(|entry| self.on_left(entry.rank.flow));
        taken.sort_by_key(|entry| entry.seq);
        taken
    }

    /// Makes room for a request admitted over the bound.
    pub(crate) fn evict(&mut self, gone: &Gone) -> Option<Victim<T>> {
        self.end_arrival_order();
        evict(&mut self.levels.each, gone, &self.flow_limit)
    }

    /// The oldest request.
    pub(crate) fn oldest(&self) -> Option<&Entry<T>> {
        let ranked = self.levels.each.iter().filter_map(PriorityLevel::oldest);
        ranked.chain(self.arrival_order.oldest()).min_by_key(|entry| entry.seq)
    }

    /// Returns whether [`summaries`](Self::summaries) has something to tell.
    #[inline]
    pub(crate) fn has_summaries(&self) -> bool {
        self.has_flows || self.has_told_unready || !self.blocked.is_empty()
    }

    /// The state of each level, if a request with a flow has come, or an inner is not ready.
    pub(crate) fn summaries(&mut self, gone: &Gone, is_filling: bool) -> Option<Summaries> {
        if !self.has_summaries() {
            return None;
        }
        self.has_told_unready = !self.blocked.is_empty();
        let (each, limit) = (&mut self.levels.each, &self.flow_limit);
        let summary = |level: usize| each[level].summary(gone[level], limit, is_filling);
        Some(std::array::from_fn(summary))
    }

    /// Drops the tombstones, if the entries are more than twice the `live` requests.
    pub(crate) fn purge(&mut self, live: usize) {
        if self.len().max(self.blocked.len()) > 2 * live + PURGE_ABOVE {
            self.sweep();
        }
        if self.has_flows {
            self.levels.each.iter_mut().for_each(PriorityLevel::forget_if_empty);
        }
    }

    /// Drops the tombstones, and forgets the unready inners without live requests.
    pub(super) fn sweep(&mut self) {
        self.arrival_order.purge();
        self.levels.each.iter_mut().for_each(PriorityLevel::purge);
        let inner_ids: Vec<_> = self.blocked.keys().copied().collect();
        for inner in inner_ids {
            self.is_blocked(inner);
        }
    }

    /// The number of entries, tombstones included.
    pub(super) fn len(&self) -> usize {
        self.arrival_order.len() + self.levels.len()
    }
}
