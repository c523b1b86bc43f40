use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::flow_stats::{FlowId, FlowStats};

/// The busiest flows, found with room for a fixed number of flows (*space saving*: Metwally,
/// Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
/// 2005).
///
/// A flow not on the list takes the place of the least busy flow on the list, and counts on from
/// the count found there. So every flow that asked more than a share of 1/n of everything is on the
/// list. A count is too high by at most the count of the displaced flow. A step takes time in
/// proportion to log n, and allocates nothing.
#[derive(Debug)]
pub(crate) struct SpaceSaving {
    room: usize,
    flows: Vec<Flow>,
    /// The places in `flows`, as a heap: the least busy flow is first.
    heap: Vec<u32>,
    /// From a key to the place in `flows`.
    places: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
}

#[derive(Debug)]
struct Flow {
    key: u64,
    id: FlowId,
    asked: u64,
    rejected: u64,
    error: u64,
    /// The place in the heap.
    at: u32,
}

impl SpaceSaving {
    /// Returns an empty list with room for `room` flows, at least one.
    pub(crate) fn new(room: usize) -> Self {
        let room = room.max(1);
        Self {
            room,
            flows: Vec::with_capacity(room),
            heap: Vec::with_capacity(room),
            // A table with one half unused cleans itself up without growing.
            places: HashMap::with_capacity_and_hasher(2 * room, BuildHasherDefault::default()),
        }
    }

    /// Counts requests of a flow. `key` must be spread like a hash. `id` returns the id.
    pub(crate) fn ask(&mut self, key: u64, count: u64, id: impl FnOnce() -> FlowId) {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.flows.len() < self.room => self.append(key, id()),
            None => self.replace_least(key, id()),
        };
        let flow = &mut self.flows[place as usize];
        flow.asked += count;
        let at = flow.at as usize;
        self.sink(at);
    }

    /// Counts rejections of a flow on the list; ignores other flows.
    pub(crate) fn reject(&mut self, key: u64, count: u64) {
        if let Some(place) = self.places.get(&key) {
            self.flows[*place as usize].rejected += count;
        }
    }

    /// Returns the flows on the list, the busiest first.
    pub(crate) fn flows(&self) -> Vec<FlowStats> {
        let stats = |flow: &Flow| FlowStats::new(flow.id, flow.asked, flow.rejected, flow.error);
        let mut flows: Vec<_> = self.flows.iter().map(stats).collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.asked));
        flows
    }

    fn append(&mut self, key: u64, id: FlowId) -> u32 {
        // `Config::check` keeps the room below 2^32.
        let (place, at) = (self.flows.len() as u32, self.heap.len() as u32);
        self.flows.push(Flow { key, id, asked: 0, rejected: 0, error: 0, at });
        self.heap.push(place);
        self.places.insert(key, place);
        self.rise(at as usize);
        place
    }

    fn replace_least(&mut self, key: u64, id: FlowId) -> u32 {
        let place = self.heap[0];
        let flow = &mut self.flows[place as usize];
        self.places.remove(&flow.key);
        self.places.insert(key, place);
        *flow = Flow { key, id, rejected: 0, error: flow.asked, ..*flow };
        place
    }

    /// Moves a flow with a grown count down the heap.
    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= self.heap.len() {
                return;
            }
            let has_right = right < self.heap.len();
            let least =
                if has_right && self.asked(right) < self.asked(left) { right } else { left };
            if self.asked(at) <= self.asked(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    /// Moves a new flow, with a count of 0, up the heap.
    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.asked(at) < self.asked((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn asked(&self, at: usize) -> u64 {
        self.flows[self.heap[at] as usize].asked
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for at in [one, other] {
            self.flows[self.heap[at] as usize].at = at as u32;
        }
    }
}

/// A hasher for keys that are hashes.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::mix;

    /// Asks for flows of a list, and returns the number of requests of each.
    fn ask(list: &mut SpaceSaving, flows: impl IntoIterator<Item = u64>) -> BTreeMap<FlowId, u64> {
        let mut asked = BTreeMap::new();
        for flow in flows {
            list.ask(mix(flow), 1, || FlowId::salted(flow));
            *asked.entry(FlowId::salted(flow)).or_default() += 1;
            let is_heap = (1..list.heap.len()).all(|at| list.asked((at - 1) / 2) <= list.asked(at));
            assert!(is_heap, "{:?}", list.heap);
        }
        asked
    }

    /// Flow `n` asks about once in n².
    fn skewed(calls: u64) -> impl Iterator<Item = u64> {
        (0..calls).map(|nth| {
            let draw = (mix(nth) >> 11) as f64 / (1u64 << 53) as f64;
            (1.0 / (draw + 1e-4)) as u64 + 1
        })
    }

    #[test]
    fn every_flow_that_asks_more_than_its_share_is_on_the_list_and_no_count_is_too_low() {
        let mut list = SpaceSaving::new(16);
        let asked = ask(&mut list, skewed(20_000));
        let flows = list.flows();
        assert_eq!(flows.len(), 16);
        assert!(flows.is_sorted_by(|one, next| one.asked >= next.asked));
        for flow in &flows {
            let truth = asked[&flow.id];
            assert!(flow.asked >= truth && flow.asked - flow.error <= truth, "{flow:?}: {truth}");
        }
        for (id, count) in asked.iter().filter(|(_, count)| **count > 20_000 / 16) {
            assert!(flows.iter().any(|flow| flow.id == *id), "{id} asked {count}");
        }
        assert_eq!(flows.iter().map(|flow| flow.asked).sum::<u64>(), 20_000);
    }

    #[test]
    fn with_room_for_all_counts_are_exact() {
        let mut list = SpaceSaving::new(64);
        let asked = ask(&mut list, (0..1000).map(|nth| nth * nth % 47 + 1));
        assert!(list.flows().iter().all(|flow| asked[&flow.id] == flow.asked && flow.error == 0));
        assert_eq!(list.flows().len(), asked.len());
    }

    #[test]
    fn rejections_count_for_those_on_the_list() {
        let mut list = SpaceSaving::new(2);
        ask(&mut list, [1, 1, 1, 2, 2]);
        list.reject(mix(1), 2);
        list.reject(mix(3), 2);
        assert_eq!(list.flows().iter().map(|flow| flow.rejected).collect::<Vec<_>>(), [2, 0]);
        // The newcomer goes on from the count, not from the rejections.
        list.reject(mix(2), 1);
        ask(&mut list, [3]);
        let newcomer = list.flows()[1];
        assert_eq!((newcomer.asked, newcomer.error, newcomer.rejected), (3, 2, 0));
    }

    #[test]
    fn a_list_that_churns_allocates_nothing() {
        let mut list = SpaceSaving::new(64);
        let room = list.places.capacity();
        ask(&mut list, 1..50_000);
        assert_eq!((list.flows.capacity(), list.places.capacity()), (64, room));
    }
}
