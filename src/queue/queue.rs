//! The waiting requests.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    charge::{Charge, ChargeId},
    expiry::Expiry,
    fair_queue::FairQueue,
    flow_limit::FlowRight,
    item::{Entry, InnerId, QueueItem},
    level_summary::{Gone, Summaries},
    next::{Next, Times, Victim},
    oldest::Oldest,
    rules::Rules,
};
use crate::class::Rank;

/// The waiting requests: a [`FairQueue`] for the order, and an [`Expiry`] for the late requests.
///
/// Both hold each request. A request popped from either, or cancelled, leaves a tombstone: an entry
/// whose item [is gone](QueueItem::is_gone). Tombstones are dropped at the front, or by
/// [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: FairQueue<T>,
    expiry: Expiry<T>,
    oldest: Oldest<T>,
}

impl<T: QueueItem + Clone> Queue<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { order: FairQueue::new(rules), expiry: Expiry::new(), oldest: Oldest::new() }
    }

    /// Adds a request, and registers the expiry: `late`, as the item says.
    #[inline]
    pub(crate) fn push(
        &mut self,
        inner: InnerId,
        rank: Rank,
        admitted: Instant,
        late: Option<Instant>,
        item: T,
    ) {
        if let Some(at) = late {
            self.expiry.push(at, item.clone());
        }
        self.oldest.on_push(admitted);
        self.order.push(inner, rank, admitted, item);
    }

    /// Takes the next request. `times` are the mean service times of the priorities.
    ///
    /// `charge` is empty before. For a request to [dispatch](Next::Dispatch) it records the charge,
    /// possibly with the right to run in the request's flow. The running call takes the right out
    /// of the charge, and [gives the right back](Self::give_back) at the end. End the request by
    /// one of: [`put_back`](Self::put_back), [`park`](Self::park), [`refund`](Self::refund),
    /// [`keep_charge`](Self::keep_charge), [`settle`](Self::settle).
    #[inline]
    pub(crate) fn pop(
        &mut self,
        now: Instant,
        times: &impl Times,
        charge: &mut Charge,
    ) -> Option<Next<T>> {
        let next = self.order.pop(now, times, charge);
        charge.expiries = self.expiry.taken();
        next
    }

    /// Takes the next request, if `is_mine` returns true for the request, and neither the age of
    /// requests nor the limit of flows has a say. The charge is as for [`pop`](Self::pop), without
    /// a right.
    #[inline]
    pub(crate) fn pop_if(
        &mut self,
        now: Instant,
        times: &impl Times,
        is_mine: impl Fn(&T) -> bool,
        charge: &mut Charge,
    ) -> Option<Entry<T>> {
        let next = match self.order.is_by_rank() {
            false => self.order.pop_in_order(is_mine),
            true => self.pop_ranked_if(now, times, is_mine, charge),
        };
        charge.expiries = self.expiry.taken();
        next
    }

    // Not inlined: the order of arrival is the common case.
    #[inline(never)]
    fn pop_ranked_if(
        &mut self,
        now: Instant,
        times: &impl Times,
        is_mine: impl Fn(&T) -> bool,
        charge: &mut Charge,
    ) -> Option<Entry<T>> {
        if let Some(taken) = self.order.pop_plain(times, &is_mine, charge) {
            return taken;
        }
        match self.order.pop_ranked(now, times, charge)? {
            Next::Dispatch(entry) if is_mine(&entry.item) => return Some(entry),
            Next::Dispatch(entry) => {
                self.order.refund(&std::mem::take(charge));
                self.order.put_back(entry);
            }
            // Left to the drain task.
            Next::Remove(entry, _) => self.order.put_back(entry),
        }
        None
    }

    /// Puts back a popped request for want of slots, as the next of its flow, even if lighter
    /// requests come. Refunds the charge.
    pub(crate) fn put_back(&mut self, entry: Entry<T>, charge: &Charge) {
        self.restore_expiry(&entry, charge);
        self.oldest.on_back(entry.admitted);
        self.order.refund(charge);
        self.order.put_back(entry);
    }

    /// Parks a popped request of an unready inner. The queue passes over all requests of the inner
    /// until [`wake`](Self::wake). Refunds the charge.
    pub(crate) fn park(&mut self, entry: Entry<T>, charge: &Charge) {
        self.restore_expiry(&entry, charge);
        self.oldest.on_back(entry.admitted);
        self.order.refund(charge);
        self.order.park(entry);
    }

    /// Registers the expiry of a popped request again, if the expiry may be lost: a popped request
    /// looks gone to every search for late requests.
    #[inline]
    fn restore_expiry(&mut self, entry: &Entry<T>, charge: &Charge) {
        if charge.expiries != self.expiry.taken() {
            self.register_late(&entry.item);
        }
    }

    /// Registers the expiry of a waiting request again.
    #[cold]
    pub(crate) fn register_late(&mut self, item: &T) {
        if let Some(at) = item.late() {
            self.expiry.push(at, item.clone());
        }
    }

    /// Makes the requests of an inner eligible again, since the inner may be ready.
    pub(crate) fn wake(&mut self, inner: InnerId) {
        self.order.wake(inner);
    }

    /// Takes back the charge of a popped request after its dispatch failed.
    pub(crate) fn refund(&mut self, charge: &Charge) {
        self.order.refund(charge);
    }

    /// Keeps the charge of a dispatched request as an estimate: the real time will not be known.
    pub(crate) fn keep_charge(&mut self, charge: &Charge) {
        self.order.keep_charge(charge);
    }

    /// Corrects a charge by the real time of the request.
    pub(crate) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        self.order.settle(id, service_time);
    }

    /// Takes back an ended call's right to run in its flow.
    pub(crate) fn give_back(&mut self, right: FlowRight) {
        self.order.give_back(right);
    }

    /// Takes note that a request with a flow and of more than one slot has left, and was not
    /// popped. Requests that waited behind it for room in the flow may go.
    pub(crate) fn on_left(&mut self, flow: u64) {
        self.order.on_left(flow);
    }

    /// Sets the most slots for each flow. Running calls go on.
    pub(crate) fn set_flow_limit(&mut self, limit: Option<usize>) {
        self.order.set_flow_limit(limit);
    }

    /// Returns whether the flow of a request may run the request now.
    pub(crate) fn has_flow_room(&mut self, rank: Rank) -> bool {
        self.order.flow_limit().has_room(rank.flow, rank.cost)
    }

    /// Returns whether a request may be dispatched at its turn, as far as known: the inner may be
    /// ready, and the flow has room.
    pub(crate) fn may_go(&mut self, inner: InnerId, rank: Rank) -> bool {
        !self.order.is_blocked(inner) && self.has_flow_room(rank)
    }

    /// Shows the flows that have reached their limit (`true`), or have room again (`false`), since
    /// the last call.
    pub(crate) fn take_flow_changes(&mut self, take: impl FnMut(u64, bool)) {
        self.order.flow_limit().take_changes(take);
    }

    /// Takes a late request. An instant of exactly `now` has passed.
    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<T> {
        self.expiry.pop(now)
    }

    /// Returns when the next request is late.
    pub(crate) fn next_late(&mut self) -> Option<Instant> {
        self.expiry.next()
    }

    /// Takes the oldest request of the longest flow of the lowest priority. `gone` as for
    /// [`summaries`](Self::summaries).
    pub(crate) fn pop_oldest(&mut self, gone: &Gone) -> Option<Entry<T>> {
        self.order.pop_oldest(gone)
    }

    /// Takes all requests of a dead inner, oldest first. Linear in the entries.
    pub(crate) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        self.order.take_all_of(inner)
    }

    /// Makes room for a request admitted over the bound. `gone` as for
    /// [`summaries`](Self::summaries).
    pub(crate) fn evict(&mut self, gone: &Gone) -> Option<Victim<T>> {
        self.order.evict(gone)
    }

    /// Returns the admission time of the oldest of `live` requests, one turn of the drain task late
    /// at most, and whether the drain task needs a turn. In constant time.
    pub(crate) fn oldest(&mut self, live: usize) -> (Option<Instant>, bool) {
        self.oldest.read(&self.order, live)
    }

    /// Ends a turn of the drain task: searches for the oldest request if the known one has gone.
    /// `is_busy` says whether the turn has dispatched.
    pub(crate) fn look_for_oldest(&mut self, live: usize, is_busy: bool) {
        self.oldest.look(&mut self.order, live, is_busy);
    }

    /// Returns whether [`summaries`](Self::summaries) has something to tell.
    #[inline]
    pub(crate) fn has_summaries(&self) -> bool {
        self.order.has_summaries()
    }

    /// The state of each priority level, if a request with a flow has come, or an inner is not
    /// ready. `gone` is the weight of each level cancelled or removed so far. Only if the queue
    /// `is_filling` is the longest flow looked for.
    pub(crate) fn summaries(&mut self, gone: &Gone, is_filling: bool) -> Option<Summaries> {
        self.order.summaries(gone, is_filling)
    }

    /// Drops the tombstones, if the entries are more than twice the `live` requests. A popped
    /// request looks gone as well, and loses its expiry. If the request may be put back, use
    /// [`purge_left`](Self::purge_left).
    pub(crate) fn purge(&mut self, live: usize) {
        self.order.purge(live);
        self.expiry.purge(live, QueueItem::is_gone);
    }

    /// Drops the tombstones like [`purge`](Self::purge), but keeps the expiry of popped requests,
    /// for when they are put back. Only a request that [has left](QueueItem::has_left) for good
    /// loses its expiry.
    pub(crate) fn purge_left(&mut self, live: usize) {
        self.order.purge(live);
        self.expiry.purge(live, QueueItem::has_left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::testing::Item;

    const NO_TIMES: [Option<Duration>; 5] = [None; 5];

    fn queue_of(count: u32, late: Option<Instant>, now: Instant) -> (Queue<Item>, Vec<Item>) {
        let mut queue = Queue::new(Rules::default());
        let items: Vec<_> = (0..count).map(|id| Item { late, ..Item::new(id) }).collect();
        items.iter().for_each(|item| queue.push(1, Rank::default(), now, late, item.clone()));
        (queue, items)
    }

    #[test]
    fn a_request_that_one_half_gives_out_is_gone_from_the_other() {
        let now = Instant::now();
        let late = Some(now + Duration::from_millis(5));
        let (mut queue, items) = queue_of(2, late, now);
        assert_eq!(queue.next_late(), late);
        let mut charge = Charge::default();
        let Some(Next::Dispatch(entry)) = queue.pop(now, &NO_TIMES, &mut charge) else {
            panic!("two wait")
        };
        queue.keep_charge(&charge);
        assert_eq!(entry.item.id, 0);
        items[0].gone.set(true);
        assert_eq!(queue.pop_late(now + Duration::from_millis(5)).map(|item| item.id), Some(1));
        items[1].gone.set(true);
        assert!(queue.pop(now, &NO_TIMES, &mut Charge::default()).is_none());
        assert_eq!(queue.next_late(), None);
    }

    #[test]
    fn a_request_of_another_runtime_stays_the_next_and_costs_its_flow_nothing() {
        let now = Instant::now();
        let late = Some(now + Duration::from_millis(5));
        let mut queue = Queue::new(Rules::default());
        let items: Vec<_> = (0..4).map(|id| Item { late, ..Item::new(id) }).collect();
        for item in &items {
            let rank = Rank { flow: u64::from(item.id % 2) + 1, ..Rank::default() };
            queue.push(1, rank, now, late, item.clone());
        }
        let pop_if = |queue: &mut Queue<Item>, is_mine: bool| {
            let next = queue.pop_if(now, &NO_TIMES, |_| is_mine, &mut Charge::default());
            next.map(|entry| entry.item.id)
        };
        let mut taken = Vec::new();
        for _ in 0..4 {
            assert_eq!(pop_if(&mut queue, false), None);
            assert_eq!(pop_if(&mut queue, false), None);
            taken.extend(pop_if(&mut queue, true));
        }
        assert_eq!(taken, [0, 1, 2, 3], "as if nobody had asked in between");
        assert_eq!(pop_if(&mut queue, true), None);
    }

    #[test]
    fn a_limit_of_flows_leaves_the_choice_to_the_drain_task() {
        let now = Instant::now();
        let mut queue = Queue::new(Rules { flow_limit: Some(1), ..Rules::default() });
        queue.push(1, Rank { flow: 1, ..Rank::default() }, now, None, Item::new(0));
        assert!(queue.pop_if(now, &NO_TIMES, |_| true, &mut Charge::default()).is_none());
        assert!(queue.pop(now, &NO_TIMES, &mut Charge::default()).is_some());
    }

    #[test]
    fn a_popped_request_that_is_put_back_or_parked_has_its_expiry_again() {
        let now = Instant::now();
        let late = Some(now + Duration::from_millis(5));
        type Back = fn(&mut Queue<Item>, Entry<Item>, &Charge);
        for back in [Queue::put_back as Back, Queue::park] {
            let (mut queue, items) = queue_of(1, late, now);
            let mut charge = Charge::default();
            let Some(Next::Dispatch(entry)) = queue.pop(now, &NO_TIMES, &mut charge) else {
                panic!("it waits")
            };
            items[0].gone.set(true);
            assert_eq!(queue.next_late(), None, "it is in hand");
            items[0].gone.set(false);
            back(&mut queue, entry, &charge);
            assert_eq!(queue.next_late(), late);
        }
    }

    #[test]
    fn what_may_be_put_back_keeps_its_expiry() {
        let now = Instant::now();
        let late = Some(now + Duration::from_millis(5));
        let (mut queue, items) = queue_of(3000, late, now);
        items.iter().for_each(|item| item.gone.set(true));
        items[1..].iter().for_each(|item| item.left.set(true));
        queue.purge_left(0);
        items[0].gone.set(false);
        assert_eq!(queue.next_late(), late, "it was in hand");
        items[0].gone.set(true);
        items[0].left.set(true);
        assert_eq!(queue.next_late(), None);
    }
}
