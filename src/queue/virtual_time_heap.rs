//! Queues that take turns by virtual time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use super::{item::QueueId, longest_queue::LongestQueue};

/// Where a queue stands in its group: by what it has had, and at the same, by who has been there longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Virtual time, in nanoseconds of the inner's time.
    pub(super) virtual_time: u64,
    pub(super) seq: u64,
    pub(super) queue: QueueId,
}

/// What is to become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    Current,
    /// Its queue has had more since, and stands there now.
    Outdated(Key),
    Stale,
}

/// The queues of a level that share alike, each with its virtual time: what it has had of the inner's time
/// since it was as far as the others.
///
/// A key is not taken out when it changes: when it comes to the top, it is dropped, or put right in place if
/// its queue has had more meanwhile. One that has had less gets a second key. The top is always true.
#[derive(Debug, Default)]
pub(super) struct VirtualTimeHeap {
    heap: BinaryHeap<Reverse<Key>>,
    /// How many queues take turns.
    active: usize,
    /// The virtual time of the last one that was dispatched from.
    virtual_clock: u64,
    /// What the group has had, to be compared with another group.
    pub(super) virtual_time: u64,
    /// What its queues weigh together.
    pub(super) weight: u64,
    pub(super) longest: LongestQueue,
}

/// So many keys that are not true any more may stay in the heap, and as many as are.
const MAX_STALE: usize = 64;

impl VirtualTimeHeap {
    pub(super) fn first(&self) -> Option<QueueId> {
        self.heap.peek().map(|key| key.0.queue)
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// The virtual time at which a queue that comes back starts at least, so that it can't save up what it did
    /// not use: what the one had had that was served last, which is the least that any has had by then (as
    /// in start-time fair queueing).
    pub(super) fn virtual_clock(&self) -> u64 {
        self.virtual_clock
    }

    pub(super) fn advance(&mut self, virtual_time: u64) {
        self.virtual_clock = self.virtual_clock.max(virtual_time);
    }

    /// A queue comes back. If it is the first of the group, the group starts where the other is, for the same
    /// reason.
    pub(super) fn activate(&mut self, virtual_clock: u64) {
        if self.active == 0 {
            self.virtual_time = self.virtual_time.max(virtual_clock);
        }
        self.active += 1;
    }

    /// A queue has nothing more to dispatch.
    pub(super) fn deactivate(&mut self) {
        self.active -= 1;
    }

    /// A queue that takes turns has a new key.
    pub(super) fn push(&mut self, key: Key) {
        self.heap.push(Reverse(key));
    }

    /// The first one has a new key.
    pub(super) fn replace_first(&mut self, key: Key) {
        if let Some(mut top) = self.heap.peek_mut() {
            top.0 = key;
        }
    }

    /// Puts the top right, and drops the keys that are not true any more when they are many.
    pub(super) fn tidy(&mut self, mut state_of: impl FnMut(&Key) -> KeyState) {
        while let Some(mut top) = self.heap.peek_mut() {
            match state_of(&top.0) {
                KeyState::Current => break,
                KeyState::Outdated(key) => top.0 = key,
                KeyState::Stale => drop(PeekMut::pop(top)),
            }
        }
        if self.heap.len() > 2 * self.active + MAX_STALE {
            self.heap.retain(|key| !matches!(state_of(&key.0), KeyState::Stale));
        }
    }
}
