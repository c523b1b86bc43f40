//! A queue of a priority level.

use std::time::Duration;

use super::{
    charge::{Charge, Estimate, whole},
    item::{Entry, Hold, QueueId, QueueItem},
    level_summary::PassedOver,
    request_deque::RequestDeque,
};
use crate::class::{NO_FLOW, Rank};

/// A queue of a priority level: the requests, the virtual time, and the mean service time.
#[derive(Debug)]
pub(super) struct FlowQueue<T> {
    pub(super) requests: RequestDeque<T>,
    pub(super) kind: QueueKind,
    /// Tells the queue from earlier queues with the same [`QueueId`](super::item::QueueId).
    pub(super) generation: u32,
    /// Set if the flow of a dedicated queue is proven; see [`FlowTable`](super::flow_table).
    pub(super) is_proven: bool,
    /// The virtual time: all charges to the queue, in nanoseconds of the inner's time, each divided
    /// by the weight of the flow.
    pub(super) virtual_time: u64,
    /// The remainder of the divisions. Without the remainder, calls of a microsecond would cost a
    /// flow of weight 1000 half of the right charge.
    rest: u16,
    /// The weight of the flow, from the newest request: 1 to 1000. The weight of a shared queue is
    /// 1.
    pub(super) share: u16,
    pub(super) estimate: Estimate,
    /// Set while the flow of a dedicated queue is held, at its limit.
    pub(super) is_held: bool,
    /// Set while the heap counts the queue as active, with an eligible request.
    pub(super) is_active: bool,
    /// The number of the queue's key in the heap.
    pub(super) key_seq: u64,
    /// The sum of the slots for all requests, as last counted by the level.
    pub(super) weight: u64,
    /// The number of entries, as last counted by the level.
    pub(super) len: usize,
    /// The requests to pass over, as last counted by the level.
    pub(super) passed_over: PassedOver,
    /// The cancelled or removed weight of the level when the tombstones of this queue were last
    /// dropped. The growth since then bounds the tombstones in this queue.
    pub(super) purged_at: u64,
}

/// The flows of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    /// A single flow, named by its hash.
    Dedicated(u64),
    /// Every flow with the card in its hand (shuffle sharding).
    Shared(u8),
}

impl<T: QueueItem> FlowQueue<T> {
    pub(super) fn new(kind: QueueKind, generation: u32, is_proven: bool) -> Self {
        Self {
            requests: RequestDeque::new(),
            kind,
            generation,
            is_proven,
            virtual_time: 0,
            rest: 0,
            share: 1,
            estimate: Estimate::default(),
            is_held: false,
            is_active: false,
            key_seq: 0,
            weight: 0,
            len: 0,
            passed_over: PassedOver::default(),
            purged_at: 0,
        }
    }

    /// Returns whether the queue has an eligible request.
    #[inline]
    pub(super) fn may_go(&self) -> bool {
        !self.is_held && self.requests.may_go()
    }

    /// Returns whether requests are passed over, or were when last counted.
    #[inline]
    pub(super) fn passes_over(&self) -> bool {
        self.is_held || self.requests.is_parking() || self.passed_over.requests > 0
    }

    /// Counts the requests to pass over.
    pub(super) fn count_passed_over(&self) -> PassedOver {
        if !self.is_held {
            return self.requests.passed_over();
        }
        let requests = self.requests.len() as u64;
        PassedOver { requests, weight: self.requests.weight() }
    }

    /// Charges the queue for a taken request, unless `is_free`. Returns the charge. `id` is the id
    /// of the queue, and `service` returns the mean service time of the priority.
    #[inline(always)]
    pub(super) fn charge_for(
        &mut self,
        id: QueueId,
        rank: Rank,
        service: impl FnOnce() -> Option<Duration>,
        is_free: bool,
    ) -> Charge {
        let cost = rank.cost;
        // Each flow in a shared queue has a weight of its own.
        let share = if self.kind.is_shared() { rank.share } else { self.share };
        let nanos = match is_free {
            true => 0,
            false => whole(self.estimate.nanos(service) * f64::from(cost)),
        };
        self.charge(nanos, share);
        let generation = self.generation;
        Charge { queue: id, generation, nanos, cost, share, ..Charge::default() }
    }

    /// Takes back a popped request without room in its flow. Parks the request in a shared queue,
    /// and makes it the next in a dedicated queue. Returns whether the queue is shared.
    pub(super) fn hold_back(&mut self, entry: Entry<T>) -> bool {
        let is_shared = self.kind.is_shared();
        if is_shared {
            self.requests.park(Hold::Flow(entry.rank.flow), entry);
        } else {
            self.requests.put_back(entry);
        }
        is_shared
    }

    /// Charges the queue for `nanos` of the inner's time, at a weight of `share`.
    #[inline]
    pub(super) fn charge(&mut self, nanos: u64, share: u16) {
        let part = if share <= 1 { nanos } else { self.part(nanos, share) };
        self.virtual_time = self.virtual_time.saturating_add(part);
    }

    /// Replaces a charge of `charged` by `nanos`, both at a weight of `share`.
    #[inline]
    pub(super) fn correct(&mut self, charged: u64, nanos: u64, share: u16) {
        if share <= 1 {
            self.virtual_time = self.virtual_time.saturating_add(nanos).saturating_sub(charged);
        } else if nanos >= charged {
            self.charge(nanos - charged, share);
        } else {
            self.refund(charged - nanos, share);
        }
    }

    fn part(&mut self, nanos: u64, share: u16) -> u64 {
        let (all, share) = (nanos.saturating_add(self.rest.into()), u64::from(share));
        self.rest = (all % share) as u16;
        all / share
    }

    fn refund(&mut self, nanos: u64, share: u16) {
        let rest = (nanos % u64::from(share)) as u16;
        let borrowed = if rest > self.rest { share } else { 0 };
        self.rest = self.rest + borrowed - rest;
        let part = nanos / u64::from(share) + u64::from(borrowed > 0);
        self.virtual_time = self.virtual_time.saturating_sub(part);
    }
}

impl QueueKind {
    #[inline]
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Returns the flow of a dedicated queue; `None` for requests without a flow.
    pub(super) fn flow(self) -> Option<u64> {
        match self {
            Self::Dedicated(NO_FLOW) | Self::Shared(_) => None,
            Self::Dedicated(flow) => Some(flow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::testing::{Item, Random};

    #[test]
    fn a_flow_is_charged_exactly_a_part_of_the_real_times_whatever_the_estimates() {
        for share in [1, 2, 3, 7, 999, 1000] {
            let mut random = Random::new(share.into());
            let mut queue = FlowQueue::<Item>::new(QueueKind::Dedicated(1), 0, true);
            let mut all = 0;
            for _ in 0..1000 {
                let (estimate, real) = (random.below(5000), random.below(5000));
                queue.charge(estimate, share);
                queue.correct(estimate, real, share);
                all += real;
            }
            let had = queue.virtual_time * u64::from(share) + u64::from(queue.rest);
            assert_eq!(had, all, "weight {share}");
        }
    }

    #[test]
    fn a_charge_is_taken_back_at_the_weight_at_which_it_was_made() {
        let mut queue = FlowQueue::<Item>::new(QueueKind::Dedicated(1), 0, true);
        queue.charge(10_000_000, 1);
        for _ in 0..100 {
            queue.charge(3_000_001, 1000);
            queue.charge(1_000, 1);
            queue.correct(3_000_001, 0, 1000);
        }
        let all = 10_000_000 + 100 * 1_000;
        assert!((all..all + 100).contains(&queue.virtual_time), "{}", queue.virtual_time);
    }
}
