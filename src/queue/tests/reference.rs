//! The line against a sorted vector, in random play.

use std::collections::HashMap;

use super::Rig;
use crate::{
    class::{Class, Priority},
    options::Order,
    queue::{Rules, testing::Random},
};

/// The line as one would write it without a thought of speed: a vector, and a look at all of it each time.
struct Reference {
    newest_first: bool,
    /// In order of arrival: number, priority, flow, cost, gone.
    waiting: Vec<(u32, usize, u64, u32, bool)>,
    /// Virtual time, and since when.
    flows: HashMap<(usize, u64), (u64, u64)>,
    clocks: [u64; 5],
    ticks: u64,
}

impl Reference {
    fn is_active(&self, level: usize, flow: u64) -> bool {
        self.waiting.iter().any(|one| (one.1, one.2) == (level, flow))
    }

    fn best(&self, level: usize) -> Option<(u64, u64, u64)> {
        let active = self.waiting.iter().filter(|one| one.1 == level).map(|one| {
            let (time, tick) = self.flows[&(level, one.2)];
            (time, tick, one.2)
        });
        active.min()
    }

    fn push(&mut self, id: u32, level: usize, flow: u64, cost: u32) {
        if !self.is_active(level, flow) {
            self.ticks += 1;
            let known = self.flows.entry((level, flow)).or_default();
            *known = (known.0.max(self.clocks[level]), self.ticks);
        }
        self.waiting.push((id, level, flow, cost, false));
    }

    fn pop(&mut self) -> Option<u32> {
        loop {
            let level = self.waiting.iter().map(|one| one.1).min()?;
            // With nobody to be fair to, nothing is charged.
            let flows = self.flows.keys().filter(|(at, _)| *at == level).count();
            let is_free = flows == 1 && self.waiting.iter().all(|one| one.1 == level);
            let (time, _, flow) = self.best(level)?;
            let mine = |one: &(u32, usize, u64, u32, bool)| (one.1, one.2) == (level, flow);
            // Those gone in front are dropped; what is left is looked at from the end whose turn it is.
            while let Some(at) = self.waiting.iter().position(mine).filter(|at| self.waiting[*at].4)
            {
                self.waiting.remove(at);
            }
            let at = match self.newest_first {
                true => self.waiting.iter().rposition(mine),
                false => self.waiting.iter().position(mine),
            };
            let Some(at) = at else { continue };
            let (id, _, _, cost, gone) = self.waiting.remove(at);
            if gone {
                continue;
            }
            if is_free {
                return Some(id);
            }
            self.clocks[level] = self.clocks[level].max(time);
            self.ticks += 1;
            self.flows.insert((level, flow), (time + u64::from(cost) * 3_000_000, self.ticks));
            return Some(id);
        }
    }
}

#[test]
fn the_line_does_what_the_reference_does() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let newest_first = random.below(2) == 1;
        let order = if newest_first { Order::Lifo } else { Order::Fifo };
        let mut rig = Rig::new(Rules { order, guaranteed_share: 0.0, ..Rules::default() });
        let mut reference = Reference {
            newest_first,
            waiting: Vec::new(),
            flows: HashMap::new(),
            clocks: [0; 5],
            ticks: 0,
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
                    let rank = class.rank;
                    let id = rig.push(class);
                    reference.push(id, priority.index(), rank.flow, rank.cost);
                }
                5..=7 => assert_eq!(rig.pop(), reference.pop(), "seed {seed}, step {step}"),
                8 if !reference.waiting.is_empty() => {
                    let at = random.below(reference.waiting.len() as u64) as usize;
                    reference.waiting[at].4 = true;
                    rig.leaves(reference.waiting[at].0);
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

/// The one evicted is of the lowest priority with somebody left, of a flow that no other is longer than, and
/// the oldest there.
fn evict(rig: &mut Rig, reference: &mut Reference, seed: u64, step: u32) {
    let live = |one: &&(u32, usize, u64, u32, bool)| !one.4;
    let Some(lowest) = reference.waiting.iter().filter(live).map(|one| one.1).max() else {
        assert!(rig.line.pop_oldest().is_none());
        reference.waiting.clear();
        return;
    };
    let victim = rig.line.pop_oldest().expect("somebody waits").item.id;
    let case = format!("seed {seed}, step {step}, evicted {victim}");
    let at = reference.waiting.iter().position(|one| one.0 == victim).expect("it was waiting");
    let (_, level, flow, ..) = reference.waiting[at];
    assert_eq!(level, lowest, "{case}");
    let weight = |flow: u64, tombstones: bool| -> u32 {
        let all = reference.waiting.iter().filter(|one| (one.1, one.2) == (level, flow));
        all.filter(|one| tombstones || !one.4).map(|one| one.3).sum()
    };
    let all_flows = reference.waiting.iter().map(|one| one.2);
    assert!(all_flows.clone().all(|other| weight(flow, true) >= weight(other, false)), "{case}");
    let oldest = reference.waiting.iter().filter(live).find(|one| (one.1, one.2) == (level, flow));
    assert_eq!(oldest.map(|one| one.0), Some(victim), "{case}");
    // What had gone in longer flows, in lower priorities and in front of it was dropped on the way. It makes no
    // difference but to who is active, so the reference is rid of it all.
    reference.waiting.retain(|one| !one.4 && one.0 != victim);
    rig.line.sweep();
}
