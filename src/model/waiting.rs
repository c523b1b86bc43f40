//! The waiting requests of a model.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    class::{Priority, Rank},
    error::Reason,
    options::Order,
    queue::{
        Charge, ChargeId, Entry, FlowRight, Gone, LongestFlow, Next, Queue, QueueItem, Rules, Times,
    },
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

/// The queue, with the places held by each priority and flow.
pub(super) struct Waiting {
    queue: Queue<Arc<Waiter>>,
    queued: usize,
    places: usize,
    /// Places by priority and flow.
    flows: HashMap<(Priority, u64), usize>,
    /// The removed requests, until `take_removed`.
    removed: VecDeque<(u64, Reason)>,
    /// The places of all removed requests.
    gone: Gone,
}

pub(super) struct Waiter {
    pub(super) id: u64,
    /// The cost in the rank is the number of held places: at most the limit at admission.
    pub(super) rank: Rank,
    /// The cost in the class.
    pub(super) asked: usize,
    pub(super) late: Option<(Instant, Reason)>,
    pub(super) gone: AtomicBool,
}

impl QueueItem for Arc<Waiter> {
    fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    fn asked(&self) -> u32 {
        self.asked as u32
    }

    fn late(&self) -> Option<Instant> {
        self.late.map(|(at, _)| at)
    }
}

impl Waiting {
    pub(super) fn new(order: Order) -> Self {
        Self {
            queue: Queue::new(Rules { order, ..Rules::default() }),
            queued: 0,
            places: 0,
            flows: HashMap::new(),
            removed: VecDeque::new(),
            gone: Gone::default(),
        }
    }

    pub(super) fn set_flow_limit(&mut self, limit: Option<usize>) {
        self.queue.set_flow_limit(limit);
    }

    /// Takes back an ended call's right to run in its flow.
    pub(super) fn give_back(&mut self, right: FlowRight) {
        self.queue.give_back(right);
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn places(&self) -> usize {
        self.places
    }

    pub(super) fn push(&mut self, waiter: Waiter, now: Instant) {
        let (rank, places) = (waiter.rank, waiter.rank.cost as usize);
        let late = waiter.late.map(|(at, _)| at);
        self.queue.push(0, rank, now, late, Arc::new(waiter));
        self.queued += 1;
        self.places += places;
        *self.flows.entry((rank.priority, rank.flow)).or_default() += places;
    }

    /// Takes the next request if it `fits`, and charges the flow.
    pub(super) fn pop(
        &mut self,
        now: Instant,
        times: &impl Times,
        fits: impl Fn(&Waiter) -> bool,
    ) -> Option<(Entry<Arc<Waiter>>, Charge)> {
        loop {
            let mut charge = Charge::default();
            let entry = match self.queue.pop(now, times, &mut charge)? {
                Next::Dispatch(entry) => entry,
                Next::Remove(entry, reason) => {
                    self.remove(&entry.item, reason);
                    continue;
                }
            };
            if let Some((_, reason)) = entry.item.late.filter(|(at, _)| *at <= now) {
                self.queue.refund(&charge);
                self.remove(&entry.item, reason);
            } else if fits(&entry.item) {
                self.leave(&entry.item);
                return Some((entry, charge));
            } else {
                self.queue.put_back(entry, &charge);
                return None;
            }
        }
    }

    /// Corrects a charge by the real time of the call.
    pub(super) fn settle(&mut self, charge: ChargeId, time: Duration) {
        self.queue.settle(charge, time);
    }

    /// Returns whether waiting requests give way to a newcomer: requests of lower priorities with
    /// the `missing` places, or the longest flow of the same priority.
    pub(super) fn gives_way_to(&mut self, rank: Rank, missing: usize) -> bool {
        let is_lower = |priority: Priority| priority.index() > rank.priority.index();
        let lower = self.flows.iter().filter(|((priority, _), _)| is_lower(*priority));
        let own = self.flows.get(&(rank.priority, rank.flow)).unwrap_or(&0) + rank.cost as usize;
        lower.map(|(_, places)| places).sum::<usize>() >= missing
            || self.queue.summaries(&self.gone, true).is_some_and(|levels| {
                let index = rank.priority.index();
                let mut upper = levels[..=index].iter().enumerate();
                upper.any(|(at, level)| {
                    let LongestFlow { share, is_held, .. } = level.longest;
                    // The lengths are compared in proportion to the weights of the flows.
                    let (own, share) = (own as u64, u64::from(share));
                    (at == index || is_held)
                        && own * share < level.surely_longest * u64::from(rank.share)
                })
            })
    }

    /// Removes a request to make room. Returns `false` if the queue is empty.
    pub(super) fn evict(&mut self) -> bool {
        let victim = self.queue.evict(&self.gone);
        victim.map(|victim| self.remove(&victim.entry.item, victim.reason)).is_some()
    }

    /// Takes an evicted request, or a late one.
    pub(super) fn take_removed(&mut self, now: Instant) -> Option<(u64, Reason)> {
        if self.removed.is_empty() {
            let waiter = self.queue.pop_late(now)?;
            let (_, reason) = waiter.late?;
            self.remove(&waiter, reason);
        }
        self.removed.pop_front()
    }

    /// The number of waiting requests, without those that wait because their flow is held. Counted
    /// by weight, as in the layer.
    pub(super) fn eligible(&mut self) -> usize {
        let held: u64 = match self.queue.summaries(&self.gone, true) {
            Some(levels) => levels.iter().map(|level| level.passed_over.weight).sum(),
            None => 0,
        };
        let places = self.places.max(1);
        let held = places.min(held as usize);
        (self.queued * (places - held)).div_ceil(places)
    }

    /// Drops the tombstones of the longest flow, as the drain task does after each dispatch.
    pub(super) fn tidy(&mut self) {
        self.queue.summaries(&self.gone, true);
        self.queue.take_flow_changes(|_, _| {});
    }

    /// Drops the tombstones once there are many.
    pub(super) fn purge(&mut self) {
        self.queue.purge(self.queued);
    }

    fn remove(&mut self, waiter: &Waiter, reason: Reason) {
        self.leave(waiter);
        if waiter.asked > 1 {
            self.queue.on_left(waiter.rank.flow);
        }
        self.gone[waiter.rank.priority.index()] += u64::from(waiter.rank.cost);
        self.removed.push_back((waiter.id, reason));
    }

    fn leave(&mut self, waiter: &Waiter) {
        waiter.gone.store(true, Relaxed);
        let (rank, places) = (waiter.rank, waiter.rank.cost as usize);
        self.queued -= 1;
        self.places -= places;
        if let hash_map::Entry::Occupied(mut flow) = self.flows.entry((rank.priority, rank.flow)) {
            *flow.get_mut() -= places;
            if *flow.get() == 0 {
                flow.remove();
            }
        }
    }
}
