//! Which queue a flow has.

use std::{cell::Cell, hash::Hasher};

use super::{
    item::{Entry, QueueId, QueueItem},
    priority_level::{PriorityLevel, Queue, key_state},
    requests::Requests,
    rules::Rules,
};
use crate::{class::NO_FLOW, rng::mix};

/// Whose a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    Dedicated(u64),
    Shared(u8),
}

impl QueueKind {
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }
}

/// As in KEP-1040.
const SHARED_QUEUES: usize = 128;
const HAND: u32 = 6;

/// So many flows may be remembered while none has anything here, so that a calm does not make and drop the
/// same few all the time.
pub(super) const MAX_IDLE_FLOWS: usize = 64;

impl<T: QueueItem> PriorityLevel<T> {
    pub(super) fn queue_for(&mut self, flow: u64, is_proven: bool, rules: &Rules) -> QueueId {
        if flow == NO_FLOW {
            return self.flowless.unwrap_or_else(|| {
                let id = self.add(QueueKind::Dedicated(flow), true);
                self.flowless = Some(id);
                id
            });
        }
        if let Some(id) = self.dedicated_ids.get(&flow).copied() {
            if let Some(queue) = self.get_mut(id).filter(|queue| is_proven && !queue.is_proven) {
                queue.is_proven = true;
                self.unproven -= 1;
            }
            return id;
        }
        self.new_flows += 1;
        if self.new_flows > self.dedicated_ids.len().max(MAX_IDLE_FLOWS) {
            self.new_flows = 0;
            self.forget_idle(false);
        }
        let max_dedicated = rules.dedicated_queues;
        let max_unproven = (max_dedicated / 16).max(max_dedicated.min(16));
        if !is_proven && self.unproven >= max_unproven {
            self.share_unproven();
        }
        let is_sharing = self.shared.active() > 0;
        if self.dedicated_ids.len() < max_dedicated
            && (is_proven || !is_sharing && self.unproven < max_unproven)
        {
            let id = self.add(QueueKind::Dedicated(flow), is_proven);
            self.dedicated_ids.insert(flow, id);
            self.unproven += usize::from(!is_proven);
            return id;
        }
        self.shared_queue_for(flow)
    }

    /// The shortest of the queues in the hand of this flow.
    fn shared_queue_for(&mut self, flow: u64) -> QueueId {
        self.shared_ids.resize(SHARED_QUEUES, None);
        let hand = (0..HAND).map(|card| (mix(flow) >> (card * 7)) as usize % SHARED_QUEUES);
        let weight = |shared: &usize| {
            let id = self.shared_ids.get(*shared).copied().flatten();
            id.and_then(|id| self.get(id)).map_or(0, |queue| queue.weight)
        };
        let shared = hand.min_by_key(weight).unwrap_or(0);
        if let Some(id) = self.shared_ids.get(shared).copied().flatten() {
            return id;
        }
        let id = self.add(QueueKind::Shared(shared as u8), false);
        self.shared_ids[shared] = Some(id);
        id
    }

    /// Moves all who have not come before into the crowd: there are so many that they may be invented.
    fn share_unproven(&mut self) {
        let ids = self.dedicated_ids.values().copied();
        let unproven: Vec<_> =
            ids.filter(|id| self.get(*id).is_some_and(|queue| !queue.is_proven)).collect();
        let mut entries: Vec<Entry<T>> = Vec::new();
        for id in unproven {
            let Some(queue) = self.remove(id) else { continue };
            let mut requests = queue.requests;
            entries.extend(std::iter::from_fn(|| requests.pop_oldest()));
        }
        entries.sort_by_key(|entry| entry.seq);
        for entry in entries {
            let id = self.shared_queue_for(entry.rank.flow);
            self.change(id, |queue| queue.requests.push(entry));
        }
    }

    fn add(&mut self, kind: QueueKind, is_proven: bool) -> QueueId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.queues.push(None);
            QueueId::new(self.queues.len() - 1)
        });
        self.generations = self.generations.wrapping_add(1);
        let queue = Queue {
            requests: Requests::new(),
            kind,
            generation: self.generations,
            is_proven,
            virtual_time: 0,
            estimate: None,
            is_active: false,
            key_seq: 0,
            listed: Cell::new(0),
            weight: 0,
            len: 0,
        };
        self.queues[id.index()] = Some(Box::new(queue));
        id
    }

    pub(super) fn remove(&mut self, id: QueueId) -> Option<Box<Queue<T>>> {
        let queue = self.queues.get_mut(id.index())?.take()?;
        self.free.push(id);
        self.len -= queue.len;
        self.in_use -= usize::from(queue.len > 0);
        if queue.is_active {
            self.heap(queue.kind).deactivate();
        }
        match queue.kind {
            QueueKind::Dedicated(flow) => {
                self.dedicated_ids.remove(&flow);
                self.unproven -= usize::from(!queue.is_proven);
            }
            QueueKind::Shared(shared) => self.shared_ids[usize::from(shared)] = None,
        }
        let queues = &self.queues;
        let heap = if queue.kind.is_shared() { &mut self.shared } else { &mut self.dedicated };
        heap.weight -= queue.weight;
        heap.tidy(|key| key_state(queues, key));
        Some(queue)
    }

    /// Forgets empty queues that have had no more than the others, or all that are empty.
    pub(super) fn forget_idle(&mut self, all: bool) {
        for id in (0..self.queues.len()).map(QueueId::new) {
            let Some(queue) = self.get(id) else { continue };
            let virtual_clock = if queue.kind.is_shared() {
                self.shared.virtual_clock()
            } else {
                self.dedicated.virtual_clock()
            };
            let is_idle = queue.len == 0 && queue.kind != QueueKind::Dedicated(NO_FLOW);
            if is_idle && (all || queue.virtual_time <= virtual_clock) {
                self.remove(id);
            }
        }
    }
}

/// The hasher for what is a hash already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = mix(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
