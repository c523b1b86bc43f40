//! The order in which requests leave the queue.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    charge::{Charge, ChargeId},
    heavy_hitters::HeavyHitters,
    item::{Entry, InnerId, QueueId, QueueItem},
    open_charges::OpenCharges,
    priority_level::{LevelSummary, PriorityLevel},
    requests::Taken,
    rules::Rules,
};
use crate::{
    class::{NO_FLOW, Priority, Rank},
    error::Reason,
    rng::mix,
};

pub(crate) const LEVELS: usize = Priority::ALL.len();

/// The ordered backlog: a [`PriorityLevel`] for each priority.
///
/// The highest with something to dispatch goes first. Each of the others meanwhile gathers a small share of
/// what is dispatched, and goes first when that is worth a request. Every operation is O(log n) in the number
/// of flows or of unready inner services. Requests that have gone leave an empty tombstone, dropped when it comes
/// to its turn or by [`purge`](Self::purge).
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    rules: Rules,
    pub(super) levels: [PriorityLevel<T>; LEVELS],
    /// What each level is owed of its guaranteed share, in nanoseconds of the inner's time.
    owed: [f64; LEVELS],
    open_charges: OpenCharges,
    heavy_hitters: HeavyHitters,
    /// Inner services that are not ready, and where requests were set aside for them: level and slot.
    pub(super) blocked: HashMap<InnerId, BTreeSet<(usize, QueueId)>>,
    next_seq: u64,
    /// Whether a request with a flow has ever come.
    has_flows: bool,
    /// Whether anybody is owed anything.
    is_owing: bool,
}

/// Mean service time of each priority, once known.
pub(crate) type Times = [Option<Duration>; LEVELS];

/// A request at its turn.
#[derive(Debug)]
pub(crate) enum Next<T> {
    Dispatch(Entry<T>, Charge),
    Remove(Entry<T>, Reason),
}

/// Who makes room for another.
#[derive(Debug)]
pub(crate) struct Victim<T> {
    pub(crate) entry: Entry<T>,
    pub(crate) reason: Reason,
    /// Whether it gave way to one of its own priority, and its flow had more waiting than the others.
    pub(crate) over_share: bool,
}

/// Above this many tombstones are swept out when they outnumber the rest.
const PURGE_ABOVE: usize = 1024;

impl<T: QueueItem> FairQueue<T> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            levels: std::array::from_fn(|_| PriorityLevel::new()),
            owed: [0.0; LEVELS],
            open_charges: OpenCharges::default(),
            heavy_hitters: HeavyHitters::new(),
            blocked: HashMap::new(),
            next_seq: 0,
            has_flows: false,
            is_owing: false,
        }
    }

    pub(crate) fn push(&mut self, inner: InnerId, rank: Rank, admitted: Instant, item: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let level = rank.priority.index();
        let is_proven = match rank.flow {
            NO_FLOW => true,
            flow => {
                self.has_flows = true;
                self.heavy_hitters.observe(mix(flow ^ level as u64))
            }
        };
        let entry = Entry { seq, inner, rank, admitted, item };
        self.levels[level].push(entry, is_proven, &self.rules);
    }

    /// Takes the request whose turn it is. One that is to be dispatched has been charged to its flow and its
    /// level; if it is not dispatched after all, [`refund`](Self::refund) that.
    pub(crate) fn pop(&mut self, now: Instant, times: &Times) -> Option<Next<T>> {
        loop {
            let (level, is_only) = self.next_level(times)?;
            // Then there is nobody to be fair to.
            let is_free = is_only && !self.is_owing && !self.levels[level].has_flows();
            let taken = self.levels[level].take(now, &self.rules, times[level], is_free);
            // Nothing but tombstones; they are gone now.
            let Some((taken, mut charge)) = taken else { continue };
            charge.level = level as u8;
            let entry = match taken {
                Taken::Tombstone => continue,
                Taken::Overdue(entry) => return Some(Next::Remove(entry, Reason::Delay)),
                Taken::Next(entry) => entry,
            };
            if self.is_blocked(entry.inner) {
                self.levels[level].refund(&charge);
                self.park(entry);
                continue;
            }
            if is_free {
                return Some(Next::Dispatch(entry, charge));
            }
            charge.paid = self.accrue_shares(&charge) as f32;
            if self.levels[level].has_flows() {
                charge.id = self.open_charges.open(charge);
            }
            return Some(Next::Dispatch(entry, charge));
        }
    }

    /// The highest level with something to dispatch, or the one that is owed most; and whether it is the only one.
    fn next_level(&self, times: &Times) -> Option<(usize, bool)> {
        let mut first = None;
        let mut owed: Option<usize> = None;
        let mut is_only = true;
        for (index, level) in self.levels.iter().enumerate() {
            if !level.may_go() {
                continue;
            }
            if first.is_none() {
                first = Some(index);
                continue;
            }
            is_only = false;
            if self.owed[index] >= level.estimate(times[index])
                && owed.is_none_or(|other| self.owed[other] < self.owed[index])
            {
                owed = Some(index);
            }
        }
        Some((owed.or(first)?, is_only))
    }

    /// Counts a dispatch for what the other levels are owed, and against what its own is. Returns how much of
    /// that it has used up.
    fn accrue_shares(&mut self, charge: &Charge) -> f64 {
        let nanos = charge.nanos as f64;
        for (index, (level, owed)) in self.levels.iter().zip(&mut self.owed).enumerate() {
            let takes_part = index == usize::from(charge.level) || level.may_go();
            *owed = if takes_part { *owed + nanos * self.rules.guaranteed_share } else { 0.0 };
        }
        let owed = &mut self.owed[usize::from(charge.level)];
        let paid = nanos.min(*owed);
        *owed -= paid;
        self.is_owing = self.owed.iter().any(|owed| *owed > 0.0);
        paid
    }

    /// Takes back what a request was charged that was not dispatched after all.
    pub(crate) fn refund(&mut self, charge: &Charge) {
        charge.id.and_then(|id| self.open_charges.close(id));
        self.levels[usize::from(charge.level)].refund(charge);
        self.owed[usize::from(charge.level)] += f64::from(charge.paid);
        let gathered = charge.nanos as f64 * self.rules.guaranteed_share;
        self.owed.iter_mut().for_each(|owed| *owed = (*owed - gathered).max(0.0));
        self.is_owing = self.owed.iter().any(|owed| *owed > 0.0);
    }

    /// A request was called and nothing will be known of how long it took: the charge stays an estimate.
    pub(crate) fn keep_charge(&mut self, charge: &Charge) {
        charge.id.and_then(|id| self.open_charges.close(id));
    }

    /// A request has finished that took so long: puts its charge right.
    pub(crate) fn settle(&mut self, id: ChargeId, service_time: Duration) {
        if let Some(charge) = self.open_charges.close(id) {
            self.levels[usize::from(charge.level)].settle(&charge, service_time);
        }
    }

    /// Puts back a request that was taken, since its inner is not ready. It, and those of the same inner
    /// behind it, are passed over until [`wake`](Self::wake).
    pub(crate) fn park(&mut self, entry: Entry<T>) {
        let (inner, level) = (entry.inner, entry.rank.priority.index());
        let id = self.levels[level].park(entry, &self.rules);
        self.blocked.entry(inner).or_default().insert((level, id));
    }

    /// Puts back a request that was taken and could not be dispatched for want of slots. It is the next of
    /// its flow, whoever comes.
    pub(crate) fn put_back(&mut self, entry: Entry<T>) {
        self.levels[entry.rank.priority.index()].put_back(entry, &self.rules);
    }

    /// Takes note that this inner may be ready again.
    pub(crate) fn wake(&mut self, inner: InnerId) {
        for (level, id) in self.blocked.remove(&inner).unwrap_or_default() {
            self.levels[level].wake(id, inner);
        }
    }

    /// Whether an inner is known to be unready. One for which nobody waits any more is to be asked anew: it
    /// may have been told meanwhile to wake somebody else.
    fn is_blocked(&mut self, inner: InnerId) -> bool {
        let Some(places) = self.blocked.get_mut(&inner) else { return false };
        while let Some((level, id)) = places.first().copied() {
            if self.levels[level].has_parked(id, inner) {
                return true;
            }
            places.pop_first();
        }
        self.blocked.remove(&inner);
        false
    }

    /// Takes the oldest request of the longest flow of the lowest level.
    pub(crate) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        self.levels.iter_mut().rev().find_map(PriorityLevel::pop_oldest)
    }

    /// Makes room for one who was let in for the sake of its priority or its flow. Where nobody should give
    /// way any more, since others were faster, the newest goes.
    pub(crate) fn evict(&mut self) -> Option<Victim<T>> {
        loop {
            let mut waiting = self.levels.iter_mut().filter(|level| level.len() > 0).rev();
            let lowest = waiting.next()?;
            let for_higher = waiting.next().is_some();
            let over_share = !for_higher && lowest.is_uneven();
            let gives_way = for_higher || lowest.has_several();
            let victim = if gives_way { lowest.pop_oldest() } else { lowest.pop_newest() };
            // None where there were only tombstones, which are gone now.
            if let Some(entry) = victim {
                let reason = if gives_way { Reason::Evicted } else { Reason::Full };
                let over_share = over_share && entry.rank.flow != NO_FLOW;
                return Some(Victim { entry, reason, over_share });
            }
        }
    }

    /// The oldest request.
    pub(crate) fn oldest(&self) -> Option<&Entry<T>> {
        self.levels.iter().filter_map(PriorityLevel::oldest).min_by_key(|entry| entry.seq)
    }

    /// What each level looks like, once there are flows.
    pub(crate) fn summaries(&mut self) -> Option<[LevelSummary; LEVELS]> {
        self.has_flows.then(|| self.levels.each_mut().map(PriorityLevel::summary))
    }

    /// Drops the tombstones of those that have gone, once they outnumber the `live` ones.
    pub(crate) fn purge(&mut self, live: usize) {
        if self.len().max(self.blocked.len()) > 2 * live + PURGE_ABOVE {
            self.sweep();
        }
        if self.has_flows {
            self.levels.iter_mut().for_each(PriorityLevel::forget_if_empty);
        }
    }

    pub(super) fn sweep(&mut self) {
        self.levels.iter_mut().for_each(PriorityLevel::purge);
        let inner_ids: Vec<_> = self.blocked.keys().copied().collect();
        for inner in inner_ids {
            self.is_blocked(inner);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(PriorityLevel::len).sum()
    }
}
