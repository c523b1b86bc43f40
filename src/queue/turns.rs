//! The turns of the queues of a level.

use super::{
    flow_queue::{FlowQueue, QueueKind},
    flow_table::FlowTable,
    item::{QueueId, QueueItem},
    level_summary::PassedOver,
    virtual_time_heap::{Key, VirtualTimeHeap},
};

/// Two groups of queues, dedicated and shared, each with a virtual time as well. The groups take
/// turns as if each were a flow. Invented flows end in shared queues, and get half of the level at
/// most.
#[derive(Debug, Default)]
pub(super) struct Turns {
    dedicated: VirtualTimeHeap,
    shared: VirtualTimeHeap,
    /// The virtual clock of the groups: the virtual time of the group that was served last.
    virtual_clock: u64,
    last_key_seq: u64,
    passed_over: PassedOver,
}

impl Turns {
    /// The number of active queues.
    #[inline]
    pub(super) fn active(&self) -> usize {
        self.dedicated.active() + self.shared.active()
    }

    /// The weights of the active flows together. A shared queue counts as a flow of weight 1.
    pub(super) fn shares(&self) -> u64 {
        self.dedicated.shares() + self.shared.shares()
    }

    /// Returns whether shared queues are active.
    pub(super) fn is_sharing(&self) -> bool {
        self.shared.active() > 0
    }

    /// The weight of all queues.
    pub(super) fn weight(&self) -> u64 {
        self.dedicated.weight + self.shared.weight
    }

    /// The requests to pass over, of all queues.
    pub(super) fn passed_over(&self) -> PassedOver {
        self.passed_over
    }

    #[cold]
    fn update_passed_over<T: QueueItem>(&mut self, queue: &mut FlowQueue<T>) {
        let now = queue.count_passed_over();
        self.passed_over -= std::mem::replace(&mut queue.passed_over, now);
        self.passed_over += now;
    }

    /// The virtual clock of a group.
    pub(super) fn virtual_clock(&self, kind: QueueKind) -> u64 {
        if kind.is_shared() { self.shared.virtual_clock() } else { self.dedicated.virtual_clock() }
    }

    #[inline]
    fn heap(&mut self, kind: QueueKind) -> &mut VirtualTimeHeap {
        if kind.is_shared() { &mut self.shared } else { &mut self.dedicated }
    }

    /// The next queue.
    #[inline]
    pub(super) fn first(&self) -> Option<QueueId> {
        match (self.dedicated.first(), self.shared.first()) {
            (Some(_), Some(id)) if self.shared.virtual_time < self.dedicated.virtual_time => {
                Some(id)
            }
            (dedicated, shared) => dedicated.or(shared),
        }
    }

    /// Records a change of a queue: the new `weight`, and the virtual time, until now `before`.
    /// Activates or deactivates the queue.
    // Always inlined: one more call would cost 1 % of a queued call's instructions.
    #[inline(always)]
    pub(super) fn update<T: QueueItem>(
        &mut self,
        id: QueueId,
        queue: &mut FlowQueue<T>,
        weight: u64,
        before: u64,
    ) {
        if queue.passes_over() {
            self.update_passed_over(queue);
        }
        let heap = if queue.kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        if weight != queue.weight {
            heap.weight = heap.weight + weight - queue.weight;
            if weight > queue.weight {
                heap.longest.raise(id, weight, queue.share);
            }
            queue.weight = weight;
        }
        let may_go = queue.may_go();
        let was_active = std::mem::replace(&mut queue.is_active, may_go);
        match (was_active, may_go) {
            (false, false) => return,
            (false, true) => {
                heap.activate(self.virtual_clock, queue.share);
                queue.virtual_time = queue.virtual_time.max(heap.virtual_clock());
            }
            (true, false) => return heap.deactivate(id, queue.share),
            (true, true) if queue.virtual_time == before => return,
            (true, true) => {}
        }
        let had_turn = was_active && heap.first() == Some(id);
        if !was_active || had_turn || queue.virtual_time < before {
            self.last_key_seq += 1;
            queue.key_seq = self.last_key_seq;
        }
        heap.set(id, Key { virtual_time: queue.virtual_time, seq: queue.key_seq });
    }

    /// Records a new request of `weight` slots in an active queue: the turns stay.
    #[inline(always)]
    pub(super) fn on_pushed<T>(&mut self, id: QueueId, queue: &mut FlowQueue<T>, weight: u64) {
        let heap = self.heap(queue.kind);
        heap.weight += weight;
        queue.weight += weight;
        heap.longest.raise(id, queue.weight, queue.share);
    }

    /// Records that the next queue has lost a request of `weight` slots, and passes over none. The
    /// virtual time was `before`.
    #[inline(always)]
    pub(super) fn on_taken<T>(
        &mut self,
        id: QueueId,
        queue: &mut FlowQueue<T>,
        weight: u64,
        before: u64,
    ) {
        let heap = if queue.kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        heap.weight -= weight;
        queue.weight -= weight;
        if queue.len == 0 {
            queue.is_active = false;
            heap.deactivate(id, queue.share);
        } else if queue.virtual_time != before {
            self.last_key_seq += 1;
            queue.key_seq = self.last_key_seq;
            heap.set_first(Key { virtual_time: queue.virtual_time, seq: queue.key_seq });
        }
    }

    /// Records a new weight of a flow, until now `before`.
    pub(super) fn reweigh<T: QueueItem>(&mut self, id: QueueId, queue: &FlowQueue<T>, before: u16) {
        let heap = self.heap(queue.kind);
        if queue.is_active {
            heap.reweigh(before, queue.share);
        }
        if queue.weight > 0 {
            heap.longest.raise(id, queue.weight, queue.share);
        }
    }

    /// Records the removal of a queue from the table.
    pub(super) fn remove<T: QueueItem>(&mut self, id: QueueId, queue: &FlowQueue<T>) {
        self.passed_over -= queue.passed_over;
        let heap = self.heap(queue.kind);
        if queue.is_active {
            heap.deactivate(id, queue.share);
        }
        heap.weight -= queue.weight;
        heap.longest.remove(id);
    }

    /// Records the service of a queue at `virtual_time`, and a charge of `nanos` nanoseconds.
    #[inline]
    pub(super) fn charge(&mut self, kind: QueueKind, virtual_time: u64, nanos: u64) {
        let heap = self.heap(kind);
        heap.advance(virtual_time);
        let group_time = heap.virtual_time;
        heap.virtual_time = group_time.saturating_add(nanos);
        self.virtual_clock = self.virtual_clock.max(group_time);
    }

    /// Replaces a charge of `charged` nanoseconds by `nanos`.
    #[inline]
    pub(super) fn correct(&mut self, kind: QueueKind, charged: u64, nanos: u64) {
        let heap = self.heap(kind);
        heap.virtual_time = heap.virtual_time.saturating_add(nanos).saturating_sub(charged);
    }

    /// The queue to evict from, and its weight: the longest dedicated queue, by weight divided by
    /// the flow's weight. If the shared queues outweigh all dedicated queues together, the heaviest
    /// shared queue, with the weight of the whole group.
    pub(super) fn longest<T: QueueItem>(&mut self, table: &FlowTable<T>) -> Option<(u64, QueueId)> {
        let is_shared = self.shared.weight > self.dedicated.weight;
        let heap = if is_shared { &mut self.shared } else { &mut self.dedicated };
        let id = heap.longest.first(|id| {
            // The id may come from an earlier queue of this group, and belong to a queue of the
            // other group now.
            let queue = table.get(id).filter(|queue| queue.kind.is_shared() == is_shared)?;
            Some((queue.weight, queue.share))
        })?;
        Some((if is_shared { heap.weight } else { table.get(id)?.weight }, id))
    }
}
