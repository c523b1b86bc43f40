//! The turns of the queues of a level.

use super::{
    flow_queue::{FlowQueue, QueueKind},
    flow_table::FlowTable,
    item::{QueueId, QueueItem},
    longest_queue::Listed,
    virtual_time_heap::{Key, KeyState, VirtualTimeHeap},
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
    /// The weight of the held queues.
    held: u64,
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

    /// The weight of the held queues.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Records that a queue is held from now on.
    pub(super) fn on_held<T>(&mut self, queue: &FlowQueue<T>) {
        self.held += queue.weight;
    }

    /// Records the release of a held queue.
    pub(super) fn on_released<T>(&mut self, queue: &FlowQueue<T>) {
        self.held -= queue.weight;
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
    /// Activates or deactivates the queue. Returns whether keys may be stale now; then
    /// [`tidy`](Self::tidy) has to follow.
    // Always inlined, like `tidy`: two more calls would cost 1 % of a queued call's instructions.
    #[inline(always)]
    pub(super) fn update<T: QueueItem>(
        &mut self,
        id: QueueId,
        queue: &mut FlowQueue<T>,
        weight: u64,
        before: u64,
    ) -> bool {
        let heap = if queue.kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        heap.weight = heap.weight + weight - queue.weight;
        if queue.is_held {
            self.held = self.held + weight - queue.weight;
        }
        queue.weight = weight;
        if weight > queue.listed.get() {
            // With room to grow: otherwise each request of a burst would make a listing.
            let listing = weight.next_power_of_two();
            queue.listed.set(listing);
            heap.longest.push(listing, queue.share, id);
        }
        let may_go = queue.may_go();
        let was_active = std::mem::replace(&mut queue.is_active, may_go);
        match (was_active, queue.is_active) {
            (false, false) => return false,
            (false, true) => {
                heap.activate(self.virtual_clock, queue.share);
                queue.virtual_time = queue.virtual_time.max(heap.virtual_clock());
            }
            (true, false) => heap.deactivate(queue.share),
            (true, true) if queue.virtual_time == before => return false,
            (true, true) => {}
        }
        let had_turn = was_active && heap.first() == Some(id);
        if queue.is_active && (!was_active || had_turn || queue.virtual_time < before) {
            self.last_key_seq += 1;
            queue.key_seq = self.last_key_seq;
            let key = Key { virtual_time: queue.virtual_time, seq: queue.key_seq, queue: id };
            if had_turn { heap.replace_first(key) } else { heap.push(key) }
        }
        true
    }

    /// Records a new weight of a flow, until now `before`.
    pub(super) fn reweigh<T: QueueItem>(&mut self, id: QueueId, queue: &FlowQueue<T>, before: u16) {
        let heap = self.heap(queue.kind);
        if queue.is_active {
            heap.reweigh(before, queue.share);
        }
        if queue.weight > 0 {
            let listing = queue.weight.next_power_of_two();
            queue.listed.set(listing);
            heap.longest.push(listing, queue.share, id);
        }
    }

    /// Corrects the first key of a group.
    #[inline(always)]
    pub(super) fn tidy<T: QueueItem>(&mut self, kind: QueueKind, table: &FlowTable<T>) {
        self.heap(kind).tidy(|key| key_state(table, key));
    }

    /// Records the removal of a queue from the table.
    pub(super) fn remove<T: QueueItem>(&mut self, queue: &FlowQueue<T>, table: &FlowTable<T>) {
        if queue.is_held {
            self.on_released(queue);
        }
        let heap = self.heap(queue.kind);
        if queue.is_active {
            heap.deactivate(queue.share);
        }
        heap.weight -= queue.weight;
        self.tidy(queue.kind, table);
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
        let (weight, id) = heap.longest.first(table.len(), |id| {
            let queue = table.get(id)?;
            // The id may come from an earlier queue of this group, and belong to a queue of the
            // other group now.
            let is_here = queue.kind.is_shared() == is_shared;
            let FlowQueue { listed, weight, share, .. } = queue;
            is_here.then_some(Listed { listed, weight: *weight, share: *share })
        })?;
        Some((if is_shared { heap.weight } else { weight }, id))
    }
}

/// Compares a key with the queue.
#[inline]
fn key_state<T: QueueItem>(table: &FlowTable<T>, key: &Key) -> KeyState {
    match table.get(key.queue).filter(|queue| queue.is_active && queue.key_seq == key.seq) {
        Some(queue) if queue.virtual_time > key.virtual_time => {
            KeyState::Outdated(Key { virtual_time: queue.virtual_time, ..*key })
        }
        Some(_) => KeyState::Current,
        None => KeyState::Stale,
    }
}
