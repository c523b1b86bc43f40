//! A heap with a key for each queue.

use super::item::QueueId;

/// A min-heap with one key for each queue in the heap, and four entries below each entry: half as
/// many steps as in a binary heap.
///
/// The heap knows the position of each queue, so the key of any queue changes in place: each queue
/// has exactly one entry, and every entry is true. A change walks from the position of the queue
/// only as far as the order needs, on average one step.
#[derive(Debug)]
pub(super) struct QueueHeap<K> {
    /// No entry has a lower key than the entry [above](Self::make_room_above).
    entries: Vec<Entry<K>>,
    /// The positions in `entries`, by the id of the queue; [`ABSENT`] for a queue not in the heap.
    positions: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K> {
    key: K,
    queue: QueueId,
}

const ABSENT: u32 = u32::MAX;

/// The number of entries below each entry.
const BELOW: usize = 4;

impl<K> Default for QueueHeap<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), positions: Vec::new() }
    }
}

impl<K: Copy + Ord> QueueHeap<K> {
    /// The queue with the lowest key. Of several, any.
    #[inline]
    pub(super) fn first(&self) -> Option<QueueId> {
        self.entries.first().map(|entry| entry.queue)
    }

    /// The key of a queue in the heap.
    #[inline]
    pub(super) fn key(&self, queue: QueueId) -> Option<K> {
        self.position(queue).map(|at| self.entries[at].key)
    }

    /// Adds a queue, or changes the key of a queue.
    #[inline]
    pub(super) fn set(&mut self, queue: QueueId, key: K) {
        let entry = Entry { key, queue };
        let Some(at) = self.position(queue) else { return self.add(entry) };
        let at = match key < self.entries[at].key {
            true => self.make_room_above(at, key),
            false => self.make_room_below(at, key),
        };
        self.put(at, entry);
    }

    /// Raises the key of the first queue.
    #[inline(always)]
    pub(super) fn raise_first(&mut self, key: K) {
        let Some(first) = self.first() else { return };
        let at = self.make_room_below(0, key);
        self.put(at, Entry { key, queue: first });
    }

    fn add(&mut self, entry: Entry<K>) {
        let Entry { key, queue } = entry;
        if queue.index() >= self.positions.len() {
            self.positions.resize(queue.index() + 1, ABSENT);
        }
        self.entries.push(entry);
        let at = self.make_room_above(self.entries.len() - 1, key);
        self.put(at, entry);
    }

    /// Removes a queue, if in the heap.
    pub(super) fn remove(&mut self, queue: QueueId) {
        let Some(at) = self.position(queue) else { return };
        self.positions[queue.index()] = ABSENT;
        let Some(last) = self.entries.pop().filter(|last| last.queue != queue) else { return };
        // The last entry takes the free position, or goes as far above or below as the order needs.
        let top = self.make_room_above(at, last.key);
        let at = if top == at { self.make_room_below(at, last.key) } else { top };
        self.put(at, last);
    }

    /// Replaces all keys. A queue for which `key` returns `None` is removed. Linear in the entries.
    pub(super) fn set_all(&mut self, key: impl Fn(QueueId) -> Option<K>) {
        let Self { entries, positions } = self;
        entries.retain_mut(|entry| {
            positions[entry.queue.index()] = ABSENT;
            let new = key(entry.queue);
            entry.key = new.unwrap_or(entry.key);
            new.is_some()
        });
        // In order, each entry is where it belongs in the heap as well.
        entries.sort_unstable_by_key(|entry| entry.key);
        for (at, entry) in entries.iter().enumerate() {
            positions[entry.queue.index()] = at as u32;
        }
    }

    /// The number of queues in the heap.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    fn position(&self, queue: QueueId) -> Option<usize> {
        let at = self.positions.get(queue.index()).copied();
        at.filter(|at| *at != ABSENT).map(|at| at as usize)
    }

    /// Moves the entries above `at` down while greater than `key`. Returns the free position.
    #[inline]
    fn make_room_above(&mut self, mut at: usize, key: K) -> usize {
        while at > 0 {
            let above = (at - 1) / BELOW;
            let entry = self.entries[above];
            if entry.key <= key {
                break;
            }
            self.put(at, entry);
            at = above;
        }
        at
    }

    /// Moves the entries below `at` up while less than `key`. Returns the free position.
    #[inline]
    fn make_room_below(&mut self, at: usize, key: K) -> usize {
        // To the bottom, and back up if that was too far: mostly the key belongs near the bottom.
        let mut free = at;
        while let Some(below) = self.least_below(free) {
            self.put(free, self.entries[below]);
            free = below;
        }
        self.make_room_above(free, key)
    }

    /// Returns the position of the least of the entries below `at`.
    #[inline]
    fn least_below(&self, at: usize) -> Option<usize> {
        let first = BELOW * at + 1;
        let below = self.entries.get(first..)?;
        let least = match below.first_chunk::<BELOW>() {
            Some([a, b, c, d]) => {
                let (one, key) = if b.key < a.key { (1, b.key) } else { (0, a.key) };
                let (other, other_key) = if d.key < c.key { (3, d.key) } else { (2, c.key) };
                if other_key < key { other } else { one }
            }
            None => {
                let entries = below.iter().enumerate();
                entries.min_by_key(|(_, entry)| entry.key).map(|(nth, _)| nth)?
            }
        };
        Some(first + least)
    }

    #[inline(always)]
    fn put(&mut self, at: usize, entry: Entry<K>) {
        self.entries[at] = entry;
        self.positions[entry.queue.index()] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::queue::testing::Random;

    #[test]
    fn the_first_is_the_lowest_whatever_was_set_and_removed_before() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let (mut heap, mut keys) = (QueueHeap::default(), BTreeMap::<_, (u64, _)>::new());
            for _ in 0..500 {
                let queue = QueueId::new(random.below(40) as usize);
                match random.below(20) {
                    0..6 => {
                        heap.remove(queue);
                        keys.remove(&queue);
                    }
                    6..19 => {
                        // Each key once, so the first is no matter of chance.
                        let key = (random.below(20), queue);
                        heap.set(queue, key);
                        keys.insert(queue, key);
                    }
                    _ => {
                        keys.retain(|queue, _| queue.index() % 7 > 0);
                        keys.values_mut().for_each(|key| key.0 = 19 - key.0);
                        heap.set_all(|queue| keys.get(&queue).copied());
                    }
                }
                assert_eq!(heap.len(), keys.len(), "seed {seed}");
                let lowest = keys.values().min().map(|(_, queue)| *queue);
                assert_eq!(heap.first(), lowest, "seed {seed}");
            }
        }
    }
}
