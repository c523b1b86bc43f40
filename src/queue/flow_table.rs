//! The table of flows and queues.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    charge::Charge,
    flow_queue::{FlowQueue, QueueKind},
    item::{QueueId, QueueItem},
    rules::Rules,
};
use crate::{class::NO_FLOW, rng::mix};

/// The queues of a priority level, by flow.
///
/// - Requests without a flow have a queue of their own, which stays.
/// - A *proven* flow has come before, as [`HeavyHitters`](super::heavy_hitters) remembers. Proven
///   flows have *dedicated* queues, up to [`Rules::dedicated_queues`].
/// - *Unproven* flows have dedicated queues as well, up to a sixteenth of the bound. Beyond a
///   sixteenth, a client may be inventing flows.
/// - All other flows use *shared* queues, dealt by shuffle sharding (as in KEP-1040): each flow has
///   a hand of six queues, and each request goes to the lightest of the hand.
#[derive(Debug)]
pub(super) struct FlowTable<T> {
    queues: Vec<Option<Box<FlowQueue<T>>>>,
    /// The ids of removed queues, to be used again.
    free: Vec<QueueId>,
    /// The dedicated queues, by the hash of the flow.
    dedicated: HashMap<u64, QueueId, BuildHasherDefault<IdentityHasher>>,
    flowless: Option<QueueId>,
    /// The shared queues; empty until a flow needs one.
    shared: Vec<Option<QueueId>>,
    /// The number of dedicated queues of unproven flows.
    unproven: usize,
    /// The number of flows without a dedicated queue since idle queues were last forgotten.
    new_flows: usize,
    generations: u32,
}

/// The number of shared queues, as in KEP-1040.
const SHARED_QUEUES: usize = 128;

/// The number of shared queues of each flow, as in KEP-1040.
const HAND: u32 = 6;

/// The number of idle flows to remember. With fewer, a calm level would drop and make the queues of
/// the same few flows all the time.
const MAX_IDLE_FLOWS: usize = 64;

impl<T: QueueItem> FlowTable<T> {
    pub(super) fn new() -> Self {
        Self {
            queues: Vec::new(),
            free: Vec::new(),
            dedicated: HashMap::default(),
            flowless: None,
            shared: Vec::new(),
            unproven: 0,
            new_flows: 0,
            generations: 0,
        }
    }

    /// The number of queues, empty or not.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.queues.len() - self.free.len()
    }

    #[inline]
    pub(super) fn get(&self, id: QueueId) -> Option<&FlowQueue<T>> {
        self.queues.get(id.index())?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: QueueId) -> Option<&mut FlowQueue<T>> {
        self.queues.get_mut(id.index())?.as_deref_mut()
    }

    /// The queue that has paid a charge, if not gone.
    #[inline]
    pub(super) fn paying(&mut self, charge: &Charge) -> Option<&mut FlowQueue<T>> {
        self.get_mut(charge.queue).filter(|queue| queue.generation == charge.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FlowQueue<T>> {
        self.queues.iter().flatten().map(|queue| &**queue)
    }

    /// The ids in use so far, possibly of removed queues.
    pub(super) fn ids(&self) -> impl Iterator<Item = QueueId> + use<T> {
        (0..self.queues.len()).map(QueueId::new)
    }

    /// Returns the queue of requests without a flow. Makes the queue at the first request.
    pub(super) fn flowless_id(&mut self) -> QueueId {
        self.flowless.unwrap_or_else(|| {
            let id = self.add(QueueKind::Dedicated(NO_FLOW), true);
            self.flowless = Some(id);
            id
        })
    }

    /// Finds the dedicated queue of a flow, and notes whether the flow is proven by now.
    #[inline]
    pub(super) fn find(&mut self, flow: u64, is_proven: bool) -> Option<QueueId> {
        let id = self.dedicated.get(&flow).copied()?;
        if let Some(queue) = self.get_mut(id).filter(|queue| is_proven && !queue.is_proven) {
            queue.is_proven = true;
            self.unproven -= 1;
        }
        Some(id)
    }

    /// Counts a flow without a dedicated queue. Returns whether to [forget idle
    /// queues](Self::forget_idle) now. The removal is linear in the queues, and due after about as
    /// many new flows.
    pub(super) fn count_new_flow(&mut self) -> bool {
        self.new_flows += 1;
        let is_time = self.new_flows > self.dedicated.len().max(MAX_IDLE_FLOWS);
        if is_time {
            self.new_flows = 0;
        }
        is_time
    }

    /// Returns whether one more unproven flow may have a dedicated queue.
    pub(super) fn has_room_for_unproven(&self, rules: &Rules) -> bool {
        let max = rules.dedicated_queues;
        self.unproven < (max / 16).max(max.min(16))
    }

    /// The dedicated queues of unproven flows.
    pub(super) fn unproven(&self) -> Vec<QueueId> {
        let ids = self.dedicated.values().copied();
        ids.filter(|id| self.get(*id).is_some_and(|queue| !queue.is_proven)).collect()
    }

    /// Gives a queue to a flow without a dedicated queue: a new dedicated queue, or a shared queue.
    /// An unproven flow gets no dedicated queue while shared queues are active (`is_sharing`).
    pub(super) fn assign(
        &mut self,
        flow: u64,
        is_proven: bool,
        is_sharing: bool,
        rules: &Rules,
    ) -> QueueId {
        let may_be_dedicated = is_proven || !is_sharing && self.has_room_for_unproven(rules);
        if self.dedicated.len() >= rules.dedicated_queues || !may_be_dedicated {
            return self.assign_shared(flow);
        }
        let id = self.add(QueueKind::Dedicated(flow), is_proven);
        self.dedicated.insert(flow, id);
        self.unproven += usize::from(!is_proven);
        id
    }

    /// Returns the lightest of the shared queues in the hand of this flow.
    pub(super) fn assign_shared(&mut self, flow: u64) -> QueueId {
        self.shared.resize(SHARED_QUEUES, None);
        let hand = (0..HAND).map(|card| (mix(flow) >> (card * 7)) as usize % SHARED_QUEUES);
        let weight = |card: &usize| {
            let id = self.shared.get(*card).copied().flatten();
            id.and_then(|id| self.get(id)).map_or(0, |queue| queue.weight)
        };
        let card = hand.min_by_key(weight).unwrap_or(0);
        if let Some(id) = self.shared.get(card).copied().flatten() {
            return id;
        }
        let id = self.add(QueueKind::Shared(card as u8), false);
        self.shared[card] = Some(id);
        id
    }

    fn add(&mut self, kind: QueueKind, is_proven: bool) -> QueueId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.queues.push(None);
            QueueId::new(self.queues.len() - 1)
        });
        self.generations = self.generations.wrapping_add(1);
        let queue = FlowQueue::new(kind, self.generations, is_proven);
        self.queues[id.index()] = Some(Box::new(queue));
        id
    }

    /// Removes a queue, with the requests in it.
    pub(super) fn remove(&mut self, id: QueueId) -> Option<Box<FlowQueue<T>>> {
        let queue = self.queues.get_mut(id.index())?.take()?;
        self.free.push(id);
        match queue.kind {
            QueueKind::Dedicated(flow) => {
                self.dedicated.remove(&flow);
                self.unproven -= usize::from(!queue.is_proven);
            }
            QueueKind::Shared(card) => self.shared[usize::from(card)] = None,
        }
        Some(queue)
    }

    /// Returns whether the queues are more than may be remembered while idle. Shared queues count:
    /// each keeps room for requests.
    pub(super) fn has_many_queues(&self) -> bool {
        self.len() > MAX_IDLE_FLOWS
    }

    /// Removes the empty queues picked by `may_forget`. The queue of requests without a flow stays.
    pub(super) fn forget_idle(&mut self, may_forget: impl Fn(&FlowQueue<T>) -> bool) {
        for id in self.ids() {
            let Some(queue) = self.get(id) else { continue };
            let is_idle = queue.len == 0 && queue.kind != QueueKind::Dedicated(NO_FLOW);
            if is_idle && may_forget(queue) {
                self.remove(id);
            }
        }
    }
}

/// The hasher of keys that are hashes already.
#[derive(Debug, Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
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
