//! The queue against a sorted vector, in random play.

use std::collections::HashMap;

use super::Rig;
use crate::{
    class::{Class, Priority, Rank},
    options::Order,
    queue::{Gone, Rules, testing::Random},
};

/// The queue written without a thought of speed: a vector, searched as a whole at each step.
struct Reference {
    newest_first: bool,
    /// In the order of arrival.
    waiting: Vec<Request>,
    flows: HashMap<(usize, u64), Flow>,
    virtual_clocks: [u64; 5],
    last_key_seq: u64,
}

/// A flow of a priority.
#[derive(Clone, Copy, Default)]
struct Flow {
    /// The charges so far, in nanoseconds times [`EXACT`].
    charged: u64,
    /// The number of the flow's key.
    key_seq: u64,
    /// The weight, from the newest request.
    weight: u64,
}

/// All weights divide this number, so nothing is rounded.
const EXACT: u64 = 1000;

const WEIGHTS: [u32; 4] = [1, 2, 4, 1000];

impl Flow {
    fn virtual_time(self) -> u64 {
        self.charged / EXACT
    }
}

#[derive(Clone, Copy)]
struct Request {
    id: u32,
    level: usize,
    flow: u64,
    cost: u32,
    gone: bool,
}

impl Request {
    fn is_of(&self, level: usize, flow: u64) -> bool {
        (self.level, self.flow) == (level, flow)
    }
}

impl Reference {
    fn is_active(&self, level: usize, flow: u64) -> bool {
        self.waiting.iter().any(|request| request.is_of(level, flow))
    }

    /// The virtual time, the number of the key, and the flow that is next.
    fn first(&self, level: usize) -> Option<(u64, u64, u64)> {
        let waiting = self.waiting.iter().filter(|request| request.level == level);
        let keys = waiting.map(|request| {
            let flow = self.flows[&(level, request.flow)];
            (flow.virtual_time(), flow.key_seq, request.flow)
        });
        keys.min()
    }

    fn push(&mut self, id: u32, level: usize, rank: Rank) {
        let Rank { flow, cost, share, .. } = rank;
        let is_active = self.is_active(level, flow);
        let known = self.flows.entry((level, flow)).or_default();
        if !is_active {
            self.last_key_seq += 1;
            known.key_seq = self.last_key_seq;
            let clock = self.virtual_clocks[level];
            if known.virtual_time() < clock {
                known.charged = clock * EXACT + known.charged % EXACT;
            }
        }
        known.weight = share.into();
        self.waiting.push(Request { id, level, flow, cost, gone: false });
    }

    fn pop(&mut self) -> Option<u32> {
        loop {
            let level = self.waiting.iter().map(|request| request.level).min()?;
            // A single flow has no rival, and is not charged.
            let flows = self.flows.keys().filter(|(at, _)| *at == level).count();
            let is_free = flows == 1 && self.waiting.iter().all(|request| request.level == level);
            let (virtual_time, _, flow) = self.first(level)?;
            let is_mine = |request: &Request| request.is_of(level, flow);
            // Tombstones at the front are dropped. Then the request at the end to take from is
            // next.
            while let Some(at) =
                self.waiting.iter().position(is_mine).filter(|at| self.waiting[*at].gone)
            {
                self.waiting.remove(at);
            }
            let at = match self.newest_first {
                true => self.waiting.iter().rposition(is_mine),
                false => self.waiting.iter().position(is_mine),
            };
            let Some(at) = at else { continue };
            let Request { id, cost, gone, .. } = self.waiting.remove(at);
            if gone {
                continue;
            }
            if is_free {
                return Some(id);
            }
            self.virtual_clocks[level] = self.virtual_clocks[level].max(virtual_time);
            self.last_key_seq += 1;
            let known = self.flows.entry((level, flow)).or_default();
            known.charged += u64::from(cost) * 3_000_000 * EXACT / known.weight;
            known.key_seq = self.last_key_seq;
            return Some(id);
        }
    }
}

#[test]
fn the_queue_does_what_the_reference_does() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let newest_first = random.below(2) == 1;
        let order = if newest_first { Order::Lifo } else { Order::Fifo };
        let mut rig = Rig::new(Rules { order, guaranteed_share: 0.0, ..Rules::default() });
        let mut reference = Reference {
            newest_first,
            waiting: Vec::new(),
            flows: HashMap::new(),
            virtual_clocks: [0; 5],
            last_key_seq: 0,
        };
        for step in 0..300 {
            match random.below(10) {
                0..=4 => {
                    let priority = Priority::ALL[random.below(5) as usize];
                    let class = match random.below(6) {
                        0 => Class::new(),
                        flow => Class::new().flow(flow),
                    };
                    let class = class.priority(priority).cost(random.below(3) as u32);
                    let class = class.weight(WEIGHTS[random.below(4) as usize]);
                    let rank = class.rank;
                    let id = rig.push(class);
                    reference.push(id, priority.index(), rank);
                }
                5..=7 => assert_eq!(rig.pop(), reference.pop(), "seed {seed}, step {step}"),
                8 if !reference.waiting.is_empty() => {
                    let at = random.below(reference.waiting.len() as u64) as usize;
                    reference.waiting[at].gone = true;
                    rig.leaves(reference.waiting[at].id);
                }
                _ => evict(&mut rig, &mut reference, seed, step),
            }
        }
        while let Some(id) = reference.pop() {
            assert_eq!(rig.pop(), Some(id), "seed {seed}, at the end");
        }
        assert_eq!(rig.pop(), None, "seed {seed}");
    }
}

/// Evicts a request. The victim has to be of the lowest priority with a live request, of a longest
/// flow in proportion to the weights, and the oldest of the flow.
fn evict(rig: &mut Rig, reference: &mut Reference, seed: u64, step: u32) {
    let is_live = |request: &&Request| !request.gone;
    let lowest = reference.waiting.iter().filter(is_live).map(|request| request.level).max();
    let Some(lowest) = lowest else {
        assert!(rig.queue.pop_oldest(&Gone::default()).is_none());
        reference.waiting.clear();
        return;
    };
    let victim = rig.queue.pop_oldest(&Gone::default()).expect("a request waits").item.id;
    let case = format!("seed {seed}, step {step}, evicted {victim}");
    let is_victim = |request: &&Request| request.id == victim;
    let Request { level, flow, .. } =
        *reference.waiting.iter().find(is_victim).expect("the victim was waiting");
    assert_eq!(level, lowest, "{case}");
    // The cost of the requests for the weight of the flow, as a fraction.
    let length = |flow: u64, tombstones: bool| -> (u64, u64) {
        let all = reference.waiting.iter().filter(|request| request.is_of(level, flow));
        let counted = all.filter(|request| tombstones || !request.gone);
        let cost: u32 = counted.map(|request| request.cost).sum();
        (cost.into(), reference.flows.get(&(level, flow)).map_or(1, |flow| flow.weight))
    };
    let victims = length(flow, true);
    let is_shorter = |other| {
        let other = length(other, false);
        other.0 * victims.1 <= victims.0 * other.1
    };
    let mut all_flows = reference.waiting.iter().map(|request| request.flow);
    assert!(all_flows.all(is_shorter), "{case}");
    let live = reference.waiting.iter().filter(is_live);
    let oldest = live.clone().find(|request| request.is_of(level, flow));
    assert_eq!(oldest.map(|request| request.id), Some(victim), "{case}");
    // On the way, the queue has dropped the tombstones in longer flows, in lower priorities and
    // before the victim. The remaining tombstones change only which flows are active, so both sides
    // drop all tombstones.
    reference.waiting.retain(|request| !request.gone && request.id != victim);
    rig.queue.sweep();
}
