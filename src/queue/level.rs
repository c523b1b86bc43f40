//! The requests of one priority: fair between flows.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Entry, LaneId, Rules, Waiting,
    flow::{Flow, Taken},
    group::{Group, Key},
    mix,
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
pub(super) struct Level<T> {
    slots: Vec<Option<Box<Queue<T>>>>,
    free: Vec<u32>,
    /// Flows with a queue of their own.
    own: HashMap<u64, u32>,
    /// The queue of those without a flow, which stays.
    flowless: Option<u32>,
    /// Queues of the crowd; empty until there is one.
    shards: Vec<Option<u32>>,
    exact: Group,
    crowd: Group,
    /// What the group had had that was served last.
    clock: u64,
    /// All queues by weight; at the same weight the crowd is longer.
    lengths: BTreeSet<(u64, bool, u32)>,
    /// How many flows with queues of their own have not come before.
    strangers: usize,
    /// All entries, shells included.
    len: usize,
    ticks: u64,
}

#[derive(Debug)]
struct Queue<T> {
    flow: Flow<T>,
    home: Home,
    is_known: bool,
    /// Virtual time.
    time: u64,
    /// Mean time in the inner of a request of cost 1, in nanoseconds.
    estimate: Option<f64>,
    // What is known of it outside: in its group, among the lengths, and in the length of the level.
    standing: Standing,
    key: Key,
    weight: u64,
    len: usize,
}

/// Where a queue is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Among those that take turns.
    Active,
    /// Empty, and ahead of the others perhaps.
    Retired,
    /// Nowhere: all in it are for inner services that are not ready; or it is that of those without a flow,
    /// and empty.
    Out,
}

/// Whose a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Flow(u64),
    Shard(u8),
}

/// What a dispatched request was charged, and whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    pub(super) level: usize,
    pub(super) slot: u32,
    home: Home,
    /// Estimate, in nanoseconds of one slot.
    pub(super) nanos: u64,
    cost: u32,
    /// How much of what its level was owed it has used up.
    pub(super) paid: f64,
    /// Whether there was another flow, so that it matters what it will really have been.
    pub(crate) settle: bool,
}

/// What a level looks like from outside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// How many queues take turns.
    pub(crate) active: usize,
    /// What the longest weighs.
    pub(crate) longest: u64,
    /// What those without a flow weigh.
    pub(crate) flowless: u64,
}

/// As in KEP-1040.
const SHARDS: usize = 128;
const HAND: u32 = 6;

/// What a request is charged when nothing is known: as in KEP-1040.
const GUESS: f64 = 3e6;

/// So many flows may be remembered while none has anything here, so that a calm does not make and drop the
/// same few all the time.
const REMEMBERED: usize = 64;

/// Weight of a new sample in the estimate of a flow.
const WEIGHT: f64 = 0.1;

impl<T: Waiting> Level<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            own: HashMap::new(),
            flowless: None,
            shards: Vec::new(),
            exact: Group::default(),
            crowd: Group::default(),
            clock: 0,
            lengths: BTreeSet::new(),
            strangers: 0,
            len: 0,
            ticks: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is a request whose inner is worth asking.
    pub(super) fn may_go(&self) -> bool {
        self.best().is_some()
    }

    /// How many queues there are, with something in them or not.
    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    pub(super) fn shape(&self) -> Shape {
        let flowless = self.flowless.and_then(|slot| self.get(slot));
        Shape {
            active: self.exact.active() + self.crowd.active(),
            longest: self.lengths.last().map_or(0, |(weight, _, _)| *weight),
            flowless: flowless.map_or(0, |queue| queue.weight),
        }
    }

    pub(super) fn push(&mut self, entry: Entry<T>, is_known: bool, rules: &Rules) {
        let slot = self.slot_for(entry.rank.flow, is_known, rules);
        self.change(slot, |queue| queue.flow.push(entry));
    }

    fn slot_for(&mut self, flow: u64, is_known: bool, rules: &Rules) -> u32 {
        if flow == NO_FLOW {
            return self.flowless.unwrap_or_else(|| {
                let slot = self.add(Home::Flow(flow), true);
                self.flowless = Some(slot);
                slot
            });
        }
        if let Some(slot) = self.own.get(&flow).copied() {
            if let Some(queue) = self.queue(slot).filter(|queue| is_known && !queue.is_known) {
                queue.is_known = true;
                self.strangers -= 1;
            }
            return slot;
        }
        self.forget_retired(false);
        let most = rules.exact_flows;
        let most_strangers = (most / 16).max(most.min(16));
        if !is_known && self.strangers >= most_strangers {
            self.crowd_strangers();
        }
        let is_crowded = self.crowd.active() > 0;
        if self.own.len() < most && (is_known || !is_crowded && self.strangers < most_strangers) {
            let slot = self.add(Home::Flow(flow), is_known);
            self.own.insert(flow, slot);
            self.strangers += usize::from(!is_known);
            return slot;
        }
        self.shard_for(flow)
    }

    /// The shortest of the queues in the hand of this flow.
    fn shard_for(&mut self, flow: u64) -> u32 {
        self.shards.resize(SHARDS, None);
        let hand = (0..HAND).map(|card| (mix(flow) >> (card * 7)) as usize % SHARDS);
        let weight = |shard: &usize| {
            let slot = self.shards.get(*shard).copied().flatten();
            slot.and_then(|slot| self.get(slot)).map_or(0, |queue| queue.weight)
        };
        let shard = hand.min_by_key(weight).unwrap_or(0);
        if let Some(slot) = self.shards.get(shard).copied().flatten() {
            return slot;
        }
        let slot = self.add(Home::Shard(shard as u8), false);
        self.shards[shard] = Some(slot);
        slot
    }

    /// Moves all who have not come before into the crowd: there are so many that they may be invented.
    fn crowd_strangers(&mut self) {
        let slots = self.own.values().copied();
        let strangers: Vec<_> =
            slots.filter(|slot| self.get(*slot).is_some_and(|queue| !queue.is_known)).collect();
        let mut entries: Vec<Entry<T>> = Vec::new();
        for slot in strangers {
            let Some(queue) = self.remove(slot) else { continue };
            let mut flow = queue.flow;
            entries.extend(std::iter::from_fn(|| flow.pop_oldest()));
        }
        entries.sort_by_key(|entry| entry.seq);
        for entry in entries {
            let slot = self.shard_for(entry.rank.flow);
            self.change(slot, |queue| queue.flow.push(entry));
        }
    }

    fn add(&mut self, home: Home, is_known: bool) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let queue = Queue {
            flow: Flow::new(),
            home,
            is_known,
            time: 0,
            estimate: None,
            standing: Standing::Out,
            key: Key { time: 0, tick: 0, slot },
            weight: 0,
            len: 0,
        };
        self.slots[slot as usize] = Some(Box::new(queue));
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<Box<Queue<T>>> {
        let queue = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.len -= queue.len;
        self.lengths.remove(&(queue.weight, queue.home.is_crowd(), slot));
        self.group(queue.home).forget(queue.key);
        match queue.home {
            Home::Flow(flow) => {
                self.own.remove(&flow);
                self.strangers -= usize::from(!queue.is_known);
            }
            Home::Shard(shard) => self.shards[usize::from(shard)] = None,
        }
        Some(queue)
    }

    /// Forgets empty queues that have had no more than the others, or all that are empty.
    fn forget_retired(&mut self, all: bool) {
        while let Some(key) = self.exact.retired(all).or_else(|| self.crowd.retired(all)) {
            self.remove(key.slot);
        }
    }

    fn get(&self, slot: u32) -> Option<&Queue<T>> {
        self.slots.get(slot as usize)?.as_deref()
    }

    fn queue(&mut self, slot: u32) -> Option<&mut Queue<T>> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    fn group(&mut self, home: Home) -> &mut Group {
        if home.is_crowd() { &mut self.crowd } else { &mut self.exact }
    }

    /// Changes a queue, and keeps what is known of it outside true.
    fn change<R>(&mut self, slot: u32, change: impl FnOnce(&mut Queue<T>) -> R) -> Option<R> {
        let queue = self.slots.get_mut(slot as usize)?.as_mut()?;
        let result = change(queue);
        let (weight, len) = (queue.flow.weight(), queue.flow.len());
        self.len = self.len + len - queue.len;
        queue.len = len;
        let is_crowd = queue.home.is_crowd();
        if weight != queue.weight {
            self.lengths.remove(&(queue.weight, is_crowd, slot));
            self.lengths.insert((weight, is_crowd, slot));
            queue.weight = weight;
        }
        let standing = match len {
            _ if queue.flow.may_go() => Standing::Active,
            0 if queue.home != Home::Flow(NO_FLOW) => Standing::Retired,
            _ => Standing::Out,
        };
        if standing == queue.standing && queue.time == queue.key.time {
            return Some(result);
        }
        let group = if is_crowd { &mut self.crowd } else { &mut self.exact };
        group.forget(queue.key);
        if standing == Standing::Active && queue.standing != Standing::Active {
            group.catch_up(self.clock);
            queue.time = queue.time.max(group.clock());
        }
        self.ticks += 1;
        queue.key = Key { time: queue.time, tick: self.ticks, slot };
        match standing {
            Standing::Active => group.activate(queue.key),
            Standing::Retired => group.retire(queue.key),
            Standing::Out => {}
        }
        queue.standing = standing;
        Some(result)
    }

    /// The queue whose turn it is.
    fn best(&self) -> Option<u32> {
        let turn = match (self.exact.first(), self.crowd.first()) {
            (Some(_), Some(key)) if self.crowd.spent < self.exact.spent => Some(key),
            (exact, crowd) => exact.or(crowd),
        };
        turn.map(|key| key.slot)
    }

    /// What a request of the queue whose turn it is would be charged, at cost 1.
    pub(super) fn estimate(&self, service: Option<Duration>) -> f64 {
        let queue = self.best().and_then(|slot| self.get(slot));
        queue.map_or(GUESS, |queue| queue.estimate(service))
    }

    /// Takes the request whose turn it is, and the slot of its queue. It may have gone.
    pub(super) fn take(
        &mut self,
        now: Instant,
        rules: &Rules,
        service: Option<Duration>,
    ) -> Option<(Taken<T>, u32)> {
        let slot = self.best()?;
        let taken = self.change(slot, |queue| queue.flow.take(now, rules, service))??;
        Some((taken, slot))
    }

    /// Charges a request that was taken from this slot, as it is about to be dispatched.
    pub(super) fn charge(
        &mut self,
        slot: u32,
        cost: u32,
        service: Option<Duration>,
    ) -> Option<Charge> {
        let queue = self.get(slot)?;
        let (home, time) = (queue.home, queue.time);
        let nanos = (queue.estimate(service) * f64::from(cost)) as u64;
        let group = self.group(home);
        group.advance(time);
        let spent = group.spent;
        self.clock = self.clock.max(spent);
        self.correct(slot, home, 0, nanos);
        let queues = self.slots.len() - self.free.len();
        Some(Charge { level: 0, slot, home, nanos, cost, paid: 0.0, settle: queues > 1 })
    }

    /// Takes a charge back: the request was not dispatched after all.
    pub(super) fn refund(&mut self, charge: &Charge) {
        self.correct(charge.slot, charge.home, charge.nanos, 0);
    }

    /// Puts a charge right: the request took so long.
    pub(super) fn settle(&mut self, charge: &Charge, time: Duration) {
        let each = time.as_nanos() as f64;
        let measured = (each * f64::from(charge.cost)) as u64;
        self.correct(charge.slot, charge.home, charge.nanos, measured);
        if let Some(queue) = self.queue(charge.slot).filter(|queue| queue.home == charge.home) {
            let known = queue.estimate.unwrap_or(each);
            queue.estimate = Some(known + WEIGHT * (each - known));
        }
    }

    fn correct(&mut self, slot: u32, home: Home, charged: u64, right: u64) {
        if self.get(slot).is_none_or(|queue| queue.home != home) {
            return;
        }
        let group = self.group(home);
        group.spent = (group.spent + right).saturating_sub(charged);
        self.change(slot, |queue| queue.time = (queue.time + right).saturating_sub(charged));
    }

    /// Puts back a request that could not be dispatched for want of slots.
    pub(super) fn put_back(&mut self, entry: Entry<T>, rules: &Rules) {
        let slot = self.slot_for(entry.rank.flow, false, rules);
        self.change(slot, |queue| queue.flow.put_back(entry));
    }

    /// Sets aside a request whose inner is not ready; returns the slot it is in.
    pub(super) fn park(&mut self, entry: Entry<T>, rules: &Rules) -> u32 {
        let slot = self.slot_for(entry.rank.flow, false, rules);
        self.change(slot, |queue| queue.flow.park(entry));
        slot
    }

    pub(super) fn wake(&mut self, slot: u32, lane: LaneId) {
        self.change(slot, |queue| queue.flow.wake(lane));
    }

    /// Whether somebody in this slot still waits for an inner that was not ready.
    pub(super) fn has_parked(&mut self, slot: u32, lane: LaneId) -> bool {
        self.change(slot, |queue| queue.flow.has_parked(lane)).unwrap_or(false)
    }

    /// Whether the longest flow can give way to another: there is more than one.
    pub(super) fn has_several(&self) -> bool {
        self.lengths.iter().rev().take(2).filter(|(weight, ..)| *weight > 0).count() > 1
    }

    /// Takes the oldest request of the longest flow.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        self.pop_longest(Flow::pop_oldest)
    }

    /// Takes the newest request of the longest flow.
    pub(super) fn pop_newest(&mut self) -> Option<Entry<T>> {
        self.pop_longest(|flow| flow.pop_newest().or_else(|| flow.pop_oldest()))
    }

    fn pop_longest(&mut self, pop: impl Fn(&mut Flow<T>) -> Option<Entry<T>>) -> Option<Entry<T>> {
        while self.len > 0 {
            let (_, _, slot) = *self.lengths.last()?;
            let entry = self.change(slot, |queue| pop(&mut queue.flow))??;
            // Shells made their flow seem longer than it is: look again which is the longest.
            if !entry.item.is_gone() {
                return Some(entry);
            }
        }
        None
    }

    /// The oldest request that still waits.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let queues = self.slots.iter().flatten();
        queues.filter_map(|queue| queue.flow.oldest()).min_by_key(|entry| entry.seq)
    }

    /// Drops the shells of those that have gone.
    pub(super) fn purge(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            self.change(slot, |queue| queue.flow.purge());
        }
    }

    /// Forgets the flows, when none has anything here and they are many.
    pub(super) fn rest(&mut self) {
        if self.len == 0 && self.own.len() > REMEMBERED {
            self.forget_retired(true);
        }
    }
}

impl<T: Waiting> Queue<T> {
    fn estimate(&self, service: Option<Duration>) -> f64 {
        let known = self.estimate.or_else(|| service.map(|service| service.as_nanos() as f64));
        known.unwrap_or(GUESS)
    }
}

impl Home {
    fn is_crowd(self) -> bool {
        matches!(self, Self::Shard(_))
    }
}
