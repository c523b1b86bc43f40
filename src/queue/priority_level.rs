//! The requests of one priority: fair between flows.

use std::{cell::Cell, collections::HashMap, hash::BuildHasherDefault};

use super::{
    flow_table::{Hashed, MAX_IDLE_FLOWS, QueueKind},
    item::{Entry, InnerId, QueueId, QueueItem},
    requests::Requests,
    rules::Rules,
    virtual_time_heap::{Key, KeyState, VirtualTimeHeap},
};
use crate::class::NO_FLOW;

/// Flows, the one that has had least of the inner's time first.
///
/// A request is charged to its flow when it is dispatched, by an estimate, and the charge is put right when it
/// has finished (as in Kubernetes' priority and fairness, KEP-1040, and the virtual token counter of OSDI'24).
/// A flow that comes back starts where the one is that has had least.
///
/// Flows that have come before have queues of their own, up to a bound; so have a few that have not. When
/// there are more, those share a *crowd* of queues, dealt by shuffle sharding: each flow has a hand of six, and
/// its requests go to the shortest. Crowd and others take turns as if they were one flow each.
#[derive(Debug)]
pub(super) struct PriorityLevel<T> {
    pub(super) queues: Vec<Option<Box<Queue<T>>>>,
    pub(super) free: Vec<QueueId>,
    /// Flows with a queue of their own.
    pub(super) dedicated_ids: HashMap<u64, QueueId, BuildHasherDefault<Hashed>>,
    /// The queue of those without a flow, which stays.
    pub(super) flowless: Option<QueueId>,
    /// Queues of the crowd; empty until there is one.
    pub(super) shared_ids: Vec<Option<QueueId>>,
    pub(super) dedicated: VirtualTimeHeap,
    pub(super) shared: VirtualTimeHeap,
    /// What the group had had that was served last.
    pub(super) virtual_clock: u64,
    /// How many queues have something in them.
    pub(super) in_use: usize,
    /// How many flows with queues of their own have not come before.
    pub(super) unproven: usize,
    /// New flows since those were last forgotten that have nothing here and are not ahead of others.
    pub(super) new_flows: usize,
    /// All entries, tombstones included.
    pub(super) len: usize,
    last_key_seq: u64,
    pub(super) generations: u32,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    pub(super) requests: Requests<T>,
    pub(super) kind: QueueKind,
    /// Tells it from others that were in the same slot before.
    pub(super) generation: u32,
    pub(super) is_proven: bool,
    /// Virtual time.
    pub(super) virtual_time: u64,
    /// Mean time in the inner of a request of cost 1, in nanoseconds.
    pub(super) estimate: Option<f64>,
    // What is known of it outside: in its group, among the lengths, and in the counts of the level.
    pub(super) is_active: bool,
    /// Tells its key from older ones.
    pub(super) key_seq: u64,
    pub(super) listed: Cell<u64>,
    pub(super) weight: u64,
    pub(super) len: usize,
}

/// What a level looks like from outside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LevelSummary {
    /// How many queues take turns.
    pub(crate) active: usize,
    /// What the longest weighs.
    pub(crate) longest: u64,
    /// What those without a flow weigh.
    pub(crate) flowless: u64,
}

impl<T: QueueItem> PriorityLevel<T> {
    pub(super) fn new() -> Self {
        Self {
            queues: Vec::new(),
            free: Vec::new(),
            dedicated_ids: HashMap::default(),
            flowless: None,
            shared_ids: Vec::new(),
            dedicated: VirtualTimeHeap::default(),
            shared: VirtualTimeHeap::default(),
            virtual_clock: 0,
            in_use: 0,
            unproven: 0,
            new_flows: 0,
            len: 0,
            last_key_seq: 0,
            generations: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is a request whose inner is worth asking.
    pub(super) fn may_go(&self) -> bool {
        self.dedicated.active() + self.shared.active() > 0
    }

    /// How many queues there are, with something in them or not.
    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.queues.iter().flatten().count()
    }

    pub(super) fn summary(&mut self) -> LevelSummary {
        let longest = self.longest().map_or(0, |(weight, _)| weight);
        let flowless = self.flowless.and_then(|id| self.get(id));
        LevelSummary {
            active: self.dedicated.active() + self.shared.active(),
            longest,
            flowless: flowless.map_or(0, |queue| queue.weight),
        }
    }

    pub(super) fn push(&mut self, entry: Entry<T>, is_proven: bool, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, is_proven, rules);
        self.change(id, |queue| queue.requests.push(entry));
    }

    pub(super) fn get(&self, id: QueueId) -> Option<&Queue<T>> {
        self.queues.get(id.index())?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue<T>> {
        self.queues.get_mut(id.index())?.as_deref_mut()
    }

    pub(super) fn heap(&mut self, kind: QueueKind) -> &mut VirtualTimeHeap {
        if kind.is_shared() { &mut self.shared } else { &mut self.dedicated }
    }

    /// Changes a queue, and keeps what is known of it outside true.
    pub(super) fn change<R>(
        &mut self,
        id: QueueId,
        change: impl FnOnce(&mut Queue<T>) -> R,
    ) -> Option<R> {
        let queue = self.queues.get_mut(id.index())?.as_mut()?;
        let before = queue.virtual_time;
        let result = change(queue);
        let (weight, len) = (queue.requests.weight(), queue.requests.len());
        self.len = self.len + len - queue.len;
        self.in_use = self.in_use + usize::from(len > 0) - usize::from(queue.len > 0);
        queue.len = len;
        let heap = if queue.kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        heap.weight = heap.weight + weight - queue.weight;
        queue.weight = weight;
        if weight > queue.listed.get() {
            // With room to grow: a burst makes a few listings, not one for each request.
            let listing = weight.next_power_of_two();
            queue.listed.set(listing);
            heap.longest.push(listing, id);
        }
        let was_active = std::mem::replace(&mut queue.is_active, queue.requests.may_go());
        match (was_active, queue.is_active) {
            (false, false) => return Some(result),
            (false, true) => {
                heap.activate(self.virtual_clock);
                queue.virtual_time = queue.virtual_time.max(heap.virtual_clock());
            }
            (true, false) => heap.deactivate(),
            (true, true) if queue.virtual_time == before => return Some(result),
            (true, true) => {}
        }
        let had_turn = was_active && heap.first() == Some(id);
        if queue.is_active && (!was_active || had_turn || queue.virtual_time < before) {
            self.last_key_seq += 1;
            queue.key_seq = self.last_key_seq;
            let key = Key { virtual_time: queue.virtual_time, seq: queue.key_seq, queue: id };
            if had_turn { heap.replace_first(key) } else { heap.push(key) }
        }
        let queues = &self.queues;
        heap.tidy(|key| key_state(queues, key));
        Some(result)
    }

    /// The queue whose turn it is.
    pub(super) fn best(&self) -> Option<QueueId> {
        match (self.dedicated.first(), self.shared.first()) {
            (Some(_), Some(id)) if self.shared.virtual_time < self.dedicated.virtual_time => {
                Some(id)
            }
            (dedicated, shared) => dedicated.or(shared),
        }
    }

    /// Puts back a request that could not be dispatched for want of slots.
    pub(super) fn put_back(&mut self, entry: Entry<T>, rules: &Rules) {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.change(id, |queue| queue.requests.put_back(entry));
    }

    /// Sets aside a request whose inner is not ready; returns the slot it is in.
    pub(super) fn park(&mut self, entry: Entry<T>, rules: &Rules) -> QueueId {
        let id = self.queue_for(entry.rank.flow, false, rules);
        self.change(id, |queue| queue.requests.park(entry));
        id
    }

    pub(super) fn wake(&mut self, id: QueueId, inner: InnerId) {
        self.change(id, |queue| queue.requests.wake(inner));
    }

    /// Whether somebody in this slot still waits for an inner that was not ready.
    pub(super) fn has_parked(&mut self, id: QueueId, inner: InnerId) -> bool {
        self.change(id, |queue| queue.requests.has_parked(inner)).unwrap_or(false)
    }

    /// Whether there is another queue than that of those without a flow.
    pub(super) fn has_flows(&self) -> bool {
        self.queues.len() - self.free.len() > 1
    }

    /// Whether the longest flow can give way to another: there is more than one.
    pub(super) fn has_several(&self) -> bool {
        self.in_use > 1
    }

    /// Whether the longest flow has more than all have on average.
    pub(super) fn is_uneven(&mut self) -> bool {
        let longest = self.longest().map_or(0, |(weight, _)| weight);
        longest * self.in_use as u64 > self.dedicated.weight + self.shared.weight
    }

    /// The queue that gives way to others: what it weighs, and its slot. The longest, of the crowd if that is
    /// longer than all others together; then what counts is what the crowd weighs.
    fn longest(&mut self) -> Option<(u64, QueueId)> {
        if self.shared.weight > self.dedicated.weight {
            let (_, id) = self.longest_of(QueueKind::Shared(0))?;
            return Some((self.shared.weight, id));
        }
        self.longest_of(QueueKind::Dedicated(NO_FLOW))
    }

    fn longest_of(&mut self, kind: QueueKind) -> Option<(u64, QueueId)> {
        let queues = &self.queues;
        let heap = if kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        heap.longest.first(queues.len() - self.free.len(), |id| {
            let queue = queues.get(id.index())?.as_deref()?;
            // The slot may once have been one of this group.
            let is_here = queue.kind.is_shared() == kind.is_shared();
            is_here.then_some((&queue.listed, queue.weight))
        })
    }

    /// Takes the oldest request of the longest flow.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        self.pop_longest(Requests::pop_oldest)
    }

    /// Takes the newest request of the longest flow.
    pub(super) fn pop_newest(&mut self) -> Option<Entry<T>> {
        self.pop_longest(|requests| requests.pop_newest().or_else(|| requests.pop_oldest()))
    }

    fn pop_longest(
        &mut self,
        pop: impl Fn(&mut Requests<T>) -> Option<Entry<T>>,
    ) -> Option<Entry<T>> {
        while self.len > 0 {
            let (_, id) = self.longest()?;
            let entry = self.change(id, |queue| pop(&mut queue.requests))??;
            // Shells made their flow seem longer than it is: look again which is the longest.
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
        None
    }

    /// The oldest request that still waits.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let queues = self.queues.iter().flatten();
        queues.filter_map(|queue| queue.requests.oldest()).min_by_key(|entry| entry.seq)
    }

    /// Drops the tombstones of those that have gone.
    pub(super) fn purge(&mut self) {
        for id in (0..self.queues.len()).map(QueueId::new) {
            self.change(id, |queue| queue.requests.purge());
        }
    }

    /// Forgets the flows, when none has anything here and they are many.
    pub(super) fn forget_if_empty(&mut self) {
        if self.len == 0 && self.dedicated_ids.len() > MAX_IDLE_FLOWS {
            self.forget_idle(true);
        }
    }
}

/// Whether a queue still stands in its group as this key says.
pub(super) fn key_state<T>(queues: &[Option<Box<Queue<T>>>], key: &Key) -> KeyState {
    let queue = queues.get(key.queue.index()).and_then(Option::as_ref);
    match queue.filter(|queue| queue.is_active && queue.key_seq == key.seq) {
        Some(queue) if queue.virtual_time > key.virtual_time => {
            KeyState::Outdated(Key { virtual_time: queue.virtual_time, ..*key })
        }
        Some(_) => KeyState::Current,
        None => KeyState::Stale,
    }
}
