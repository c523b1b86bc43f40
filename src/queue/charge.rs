//! What requests are charged.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use super::{
    item::{QueueId, QueueItem},
    priority_level::{PriorityLevel, Queue},
    requests::Taken,
    rules::Rules,
};

/// What a dispatched request was charged, and whom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    pub(super) level: u8,
    pub(super) queue: QueueId,
    /// Of the queue that was in the slot.
    generation: u32,
    /// Estimate, in nanoseconds of one slot.
    pub(super) nanos: u64,
    cost: u32,
    /// How much of what its level was owed it has used up.
    pub(super) paid: f32,
    /// Where it is kept to be put right: if there was another flow, so that it matters what it will really
    /// have been.
    pub(crate) id: Option<ChargeId>,
}

/// Names an open bill; four bytes that a running call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChargeId(NonZeroU32);

impl ChargeId {
    #[inline]
    pub(super) fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What a request is charged when nothing is known: as in KEP-1040.
const DEFAULT_CHARGE: f64 = 3e6;

/// No request is free, or those of one flow could go on for ever.
const MIN_CHARGE: f64 = 1e3;

/// Weight of a new sample in the estimate of a flow.
const SAMPLE_WEIGHT: f64 = 0.1;

impl<T: QueueItem> PriorityLevel<T> {
    /// What a request of the queue whose turn it is would be charged, at cost 1.
    pub(super) fn estimate(&self, service: Option<Duration>) -> f64 {
        let queue = self.best().and_then(|id| self.get(id));
        queue.map_or(DEFAULT_CHARGE, |queue| queue.estimate(service))
    }

    /// Takes the request whose turn it is, and charges it to its queue unless it is free.
    pub(super) fn take(
        &mut self,
        now: Instant,
        rules: &Rules,
        service: Option<Duration>,
        is_free: bool,
    ) -> Option<(Taken<T>, Charge)> {
        let id = self.best()?;
        let (taken, virtual_time, kind, charge) = self.change(id, |queue| {
            let taken = queue.requests.take(now, rules, service)?;
            let cost = match &taken {
                Taken::Next(entry) => entry.rank.cost,
                Taken::Overdue(_) | Taken::Tombstone => 0,
            };
            let is_free = is_free || cost == 0;
            let nanos =
                if is_free { 0 } else { (queue.estimate(service) * f64::from(cost)) as u64 };
            let (virtual_time, kind, generation) =
                (queue.virtual_time, queue.kind, queue.generation);
            queue.virtual_time = queue.virtual_time.saturating_add(nanos);
            let charge =
                Charge { level: 0, queue: id, generation, nanos, cost, paid: 0.0, id: None };
            Some((taken, virtual_time, kind, charge))
        })??;
        if charge.nanos > 0 {
            let heap = self.heap(kind);
            heap.advance(virtual_time);
            let group_time = heap.virtual_time;
            heap.virtual_time = heap.virtual_time.saturating_add(charge.nanos);
            self.virtual_clock = self.virtual_clock.max(group_time);
        }
        Some((taken, charge))
    }

    /// Takes a charge back: the request was not dispatched after all.
    pub(super) fn refund(&mut self, charge: &Charge) {
        self.correct(charge, 0, |_| {});
    }

    /// Puts a charge right: the request took so long.
    pub(super) fn settle(&mut self, charge: &Charge, service_time: Duration) {
        let each = service_time.as_secs_f64() * 1e9;
        self.correct(charge, (each * f64::from(charge.cost)) as u64, |queue| {
            let known = queue.estimate.unwrap_or(each);
            queue.estimate = Some(known + SAMPLE_WEIGHT * (each - known));
        });
    }

    fn correct(&mut self, charge: &Charge, right: u64, change: impl FnOnce(&mut Queue<T>)) {
        let Some(queue) = self.get(charge.queue) else { return };
        if queue.generation != charge.generation {
            return;
        }
        let kind = queue.kind;
        let heap = self.heap(kind);
        heap.virtual_time = heap.virtual_time.saturating_add(right).saturating_sub(charge.nanos);
        self.change(charge.queue, |queue| {
            queue.virtual_time =
                queue.virtual_time.saturating_add(right).saturating_sub(charge.nanos);
            change(queue);
        });
    }
}

impl<T: QueueItem> Queue<T> {
    fn estimate(&self, service: Option<Duration>) -> f64 {
        let known = self.estimate.or_else(|| service.map(|service| service.as_secs_f64() * 1e9));
        known.unwrap_or(DEFAULT_CHARGE).max(MIN_CHARGE)
    }
}
