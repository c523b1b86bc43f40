//! The requests of unready inner services, and of flows at their limit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use super::{
    adaptive_lifo::End,
    item::{Entry, Hold, InnerId, QueueItem},
    level_summary::PassedOver,
};

/// The parked requests of a queue, by inner service or flow.
///
/// An inner found unready gets a queue of its own. The queue stays until empty, even if the inner
/// becomes ready. Each request therefore moves at most once, however often the inner changes its
/// mind. The requests of an inner are *eligible* unless the inner is known to be unready. Requests
/// of a flow at its limit, without a dedicated queue, are parked in the same way.
#[derive(Debug)]
pub(super) struct Parked<T> {
    queues: HashMap<Hold, HoldQueue<T>>,
    /// The oldest entry of each inner or flow, by position.
    heads: BTreeSet<(u64, Hold)>,
    /// The oldest entry of each eligible inner or flow.
    oldest: BTreeSet<(u64, Hold)>,
    /// The newest entry of each eligible inner or flow.
    newest: BTreeSet<(u64, Hold)>,
    len: usize,
    /// The weight of all entries, in slots.
    weight: u64,
    /// The entries that are not eligible.
    passed_over: PassedOver,
}

/// The parked requests of an inner or a flow.
#[derive(Debug)]
struct HoldQueue<T> {
    /// By position.
    entries: BTreeMap<u64, Entry<T>>,
    /// The weight of the entries, in slots.
    weight: u64,
    /// Set while the inner may be ready, or the flow has room.
    is_eligible: bool,
}

impl<T: QueueItem> Parked<T> {
    pub(super) fn new() -> Self {
        Self {
            queues: HashMap::new(),
            heads: BTreeSet::new(),
            oldest: BTreeSet::new(),
            newest: BTreeSet::new(),
            len: 0,
            weight: 0,
            passed_over: PassedOver::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The entries that are not eligible.
    pub(super) fn passed_over(&self) -> PassedOver {
        self.passed_over
    }

    /// Parks an entry.
    pub(super) fn park(&mut self, id: Hold, entry: Entry<T>) {
        self.len += 1;
        self.weight += entry.weight();
        self.change(id, |queues| {
            let queue = queues.entry(id).or_insert_with(HoldQueue::new);
            queue.is_eligible = false;
            queue.weight += entry.weight();
            queue.entries.insert(entry.seq, entry);
        });
    }

    /// Makes the requests of an inner or a flow eligible again.
    pub(super) fn wake(&mut self, id: Hold) {
        self.change(id, |queues| {
            if let Some(queue) = queues.get_mut(&id) {
                queue.is_eligible = true;
            }
        });
    }

    /// The first eligible entry from `end`.
    pub(super) fn peek(&self, end: End) -> Option<&Entry<T>> {
        self.at(end).and_then(|at| self.get(at))
    }

    /// Takes the first eligible entry from `end`.
    pub(super) fn pop(&mut self, end: End) -> Option<Entry<T>> {
        self.at(end).and_then(|at| self.remove(at))
    }

    fn at(&self, end: End) -> Option<(u64, Hold)> {
        match end {
            End::Oldest => self.oldest.first().copied(),
            End::Newest => self.newest.last().copied(),
        }
    }

    fn get(&self, (seq, id): (u64, Hold)) -> Option<&Entry<T>> {
        self.queues.get(&id)?.entries.get(&seq)
    }

    /// The oldest entry, eligible or not, perhaps a tombstone.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        self.heads.first().and_then(|at| self.get(*at))
    }

    /// The oldest live entry, eligible or not.
    pub(super) fn oldest_live(&self) -> Option<&Entry<T>> {
        let live = |queue: &'_ HoldQueue<T>| -> Option<u64> {
            queue.entries.values().find(|entry| !entry.item.is_gone()).map(|entry| entry.seq)
        };
        let oldest = self.queues.iter().filter_map(|(id, queue)| Some((live(queue)?, *id))).min();
        oldest.and_then(|at| self.get(at))
    }

    /// Takes the oldest entry, eligible or not, perhaps a tombstone.
    pub(super) fn pop_oldest(&mut self) -> Option<Entry<T>> {
        self.heads.first().copied().and_then(|at| self.remove(at))
    }

    /// Returns whether an inner has live requests. Drops the tombstones before the first.
    pub(super) fn has_live(&mut self, id: Hold) -> bool {
        loop {
            let Some(queue) = self.queues.get(&id) else { return false };
            let Some((&seq, entry)) = queue.entries.iter().next() else { return false };
            if !entry.item.is_gone() {
                return true;
            }
            self.remove((seq, id));
        }
    }

    /// Takes all entries of an inner, perhaps tombstones.
    pub(super) fn take_all_of(&mut self, inner: InnerId) -> Vec<Entry<T>> {
        let mut taken: Vec<Entry<T>> = Vec::new();
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            // A flow has requests of any inner.
            if matches!(id, Hold::Inner(other) if other != inner) {
                continue;
            }
            self.change(id, |queues| {
                let Some(queue) = queues.get_mut(&id) else { return };
                let (of_inner, others) = mem::take(&mut queue.entries)
                    .into_iter()
                    .partition(|(_, entry)| entry.inner == inner);
                queue.entries = others;
                queue.weigh();
                taken.extend::<Vec<_>>(BTreeMap::into_values(of_inner).collect());
            });
        }
        self.len -= taken.len();
        self.weight -= taken.iter().map(Entry::weight).sum::<u64>();
        taken
    }

    /// Drops the tombstones.
    pub(super) fn purge(&mut self) {
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            self.change(id, |queues| {
                if let Some(queue) = queues.get_mut(&id) {
                    queue.entries.retain(|_, entry| !entry.item.is_gone());
                    queue.weigh();
                }
            });
        }
        let left = || self.queues.values().flat_map(|queue| queue.entries.values());
        self.len = left().count();
        self.weight = left().map(Entry::weight).sum();
    }

    fn remove(&mut self, (seq, id): (u64, Hold)) -> Option<Entry<T>> {
        let mut entry = None;
        self.change(id, |queues| {
            let Some(queue) = queues.get_mut(&id) else { return };
            entry = queue.entries.remove(&seq);
            queue.weight -= entry.as_ref().map_or(0, Entry::weight);
        });
        if let Some(entry) = &entry {
            self.len -= 1;
            self.weight -= entry.weight();
        }
        entry
    }

    /// Changes a queue, and corrects the indexes.
    fn change(&mut self, id: Hold, change: impl FnOnce(&mut HashMap<Hold, HoldQueue<T>>)) {
        let before = self.queues.get(&id).map(HoldQueue::passed_over).unwrap_or_default();
        self.passed_over -= before;
        if let Some((first, last)) = self.queues.get(&id).and_then(HoldQueue::ends) {
            self.heads.remove(&(first, id));
            self.oldest.remove(&(first, id));
            self.newest.remove(&(last, id));
        }
        change(&mut self.queues);
        let Some(queue) = self.queues.get(&id) else { return };
        let Some((first, last)) = queue.ends() else {
            self.queues.remove(&id);
            return;
        };
        self.passed_over += queue.passed_over();
        self.heads.insert((first, id));
        if queue.is_eligible {
            self.oldest.insert((first, id));
            self.newest.insert((last, id));
        }
    }
}

impl<T> HoldQueue<T> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), weight: 0, is_eligible: true }
    }

    fn weigh(&mut self) {
        self.weight = self.entries.values().map(Entry::weight).sum();
    }

    fn passed_over(&self) -> PassedOver {
        if self.is_eligible {
            return PassedOver::default();
        }
        PassedOver { requests: self.entries.len() as u64, weight: self.weight }
    }

    /// The positions of the oldest and the newest entry.
    fn ends(&self) -> Option<(u64, u64)> {
        let (first, _) = self.entries.first_key_value()?;
        let (last, _) = self.entries.last_key_value()?;
        Some((*first, *last))
    }
}
