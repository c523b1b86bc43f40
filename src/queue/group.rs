//! Queues that take turns by virtual time.

use std::collections::BTreeSet;

/// Where a queue stands in its group: by what it has had, and at the same, by who has been there longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Virtual time, in nanoseconds of the inner's time.
    pub(super) time: u64,
    pub(super) tick: u64,
    pub(super) slot: u32,
}

/// The queues of a level that share alike, each with its virtual time: what it has had of the inner's time
/// since it was as far as the others.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Those with a request whose inner is worth asking.
    active: BTreeSet<Key>,
    /// Those with nothing in them, which have had more than the others.
    ahead: BTreeSet<Key>,
    /// The virtual time of the last one that was dispatched from.
    clock: u64,
    /// What the group has had, to be compared with another group.
    pub(super) spent: u64,
}

impl Group {
    pub(super) fn first(&self) -> Option<Key> {
        self.active.first().copied()
    }

    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// The virtual time at which a queue that comes back starts at least, so that it can't save up what it did
    /// not use: what the one had had that was served last, which is the least that any has had by then (as
    /// in start-time fair queueing).
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// When this group comes back it starts where the other is, for the same reason.
    pub(super) fn catch_up(&mut self, clock: u64) {
        if self.active.is_empty() {
            self.spent = self.spent.max(clock);
        }
    }

    pub(super) fn advance(&mut self, time: u64) {
        self.clock = self.clock.max(time);
    }

    pub(super) fn activate(&mut self, key: Key) {
        self.active.insert(key);
    }

    /// Remembers what an empty queue has had.
    pub(super) fn retire(&mut self, key: Key) {
        self.ahead.insert(key);
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.active.remove(&key);
        self.ahead.remove(&key);
    }

    /// An empty queue that the others have caught up with, or any empty queue.
    pub(super) fn retired(&self, any: bool) -> Option<Key> {
        self.ahead.first().copied().filter(|key| any || key.time <= self.clock)
    }
}
