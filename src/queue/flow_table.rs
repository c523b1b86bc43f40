//! Which queue a flow has.

use std::{cell::Cell, hash::Hasher};

use super::{
    Entry, QueueId, QueueItem, Rules,
    flow::Flow,
    priority_level::{PriorityLevel, Queue, judge},
};
use crate::{class::NO_FLOW, rng::mix};

/// Whose a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Flow(u64),
    Shard(u8),
}

impl Home {
    pub(super) fn is_crowd(self) -> bool {
        matches!(self, Self::Shard(_))
    }
}

/// As in KEP-1040.
const SHARDS: usize = 128;
const HAND: u32 = 6;

/// So many flows may be remembered while none has anything here, so that a calm does not make and drop the
/// same few all the time.
pub(super) const REMEMBERED: usize = 64;

impl<T: QueueItem> PriorityLevel<T> {
    pub(super) fn queue_for(&mut self, flow: u64, is_known: bool, rules: &Rules) -> QueueId {
        if flow == NO_FLOW {
            return self.flowless.unwrap_or_else(|| {
                let id = self.add(Home::Flow(flow), true);
                self.flowless = Some(id);
                id
            });
        }
        if let Some(id) = self.own.get(&flow).copied() {
            if let Some(queue) = self.get_mut(id).filter(|queue| is_known && !queue.is_known) {
                queue.is_known = true;
                self.strangers -= 1;
            }
            return id;
        }
        self.newcomers += 1;
        if self.newcomers > self.own.len().max(REMEMBERED) {
            self.newcomers = 0;
            self.forget_idle(false);
        }
        let most = rules.exact_flows;
        let most_strangers = (most / 16).max(most.min(16));
        if !is_known && self.strangers >= most_strangers {
            self.crowd_strangers();
        }
        let is_crowded = self.crowd.active() > 0;
        if self.own.len() < most && (is_known || !is_crowded && self.strangers < most_strangers) {
            let id = self.add(Home::Flow(flow), is_known);
            self.own.insert(flow, id);
            self.strangers += usize::from(!is_known);
            return id;
        }
        self.shared_queue_for(flow)
    }

    /// The shortest of the queues in the hand of this flow.
    fn shared_queue_for(&mut self, flow: u64) -> QueueId {
        self.shards.resize(SHARDS, None);
        let hand = (0..HAND).map(|card| (mix(flow) >> (card * 7)) as usize % SHARDS);
        let weight = |shard: &usize| {
            let id = self.shards.get(*shard).copied().flatten();
            id.and_then(|id| self.get(id)).map_or(0, |queue| queue.weight)
        };
        let shard = hand.min_by_key(weight).unwrap_or(0);
        if let Some(id) = self.shards.get(shard).copied().flatten() {
            return id;
        }
        let id = self.add(Home::Shard(shard as u8), false);
        self.shards[shard] = Some(id);
        id
    }

    /// Moves all who have not come before into the crowd: there are so many that they may be invented.
    fn crowd_strangers(&mut self) {
        let ids = self.own.values().copied();
        let strangers: Vec<_> =
            ids.filter(|id| self.get(*id).is_some_and(|queue| !queue.is_known)).collect();
        let mut entries: Vec<Entry<T>> = Vec::new();
        for id in strangers {
            let Some(queue) = self.remove(id) else { continue };
            let mut flow = queue.flow;
            entries.extend(std::iter::from_fn(|| flow.pop_oldest()));
        }
        entries.sort_by_key(|entry| entry.seq);
        for entry in entries {
            let id = self.shared_queue_for(entry.rank.flow);
            self.change(id, |queue| queue.flow.push(entry));
        }
    }

    fn add(&mut self, home: Home, is_known: bool) -> QueueId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.queues.push(None);
            QueueId::new(self.queues.len() - 1)
        });
        self.generations = self.generations.wrapping_add(1);
        let queue = Queue {
            flow: Flow::new(),
            home,
            generation: self.generations,
            is_known,
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
            self.group(queue.home).deactivate();
        }
        match queue.home {
            Home::Flow(flow) => {
                self.own.remove(&flow);
                self.strangers -= usize::from(!queue.is_known);
            }
            Home::Shard(shard) => self.shards[usize::from(shard)] = None,
        }
        let queues = &self.queues;
        let group = if queue.home.is_crowd() { &mut self.crowd } else { &mut self.exact };
        group.weight -= queue.weight;
        group.tidy(|key| judge(queues, key));
        Some(queue)
    }

    /// Forgets empty queues that have had no more than the others, or all that are empty.
    pub(super) fn forget_idle(&mut self, all: bool) {
        for id in (0..self.queues.len()).map(QueueId::new) {
            let Some(queue) = self.get(id) else { continue };
            let virtual_clock = if queue.home.is_crowd() {
                self.crowd.virtual_clock()
            } else {
                self.exact.virtual_clock()
            };
            let is_idle = queue.len == 0 && queue.home != Home::Flow(NO_FLOW);
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
