//! No request is lost in random play, with shared queues, with inner services that are not always
//! ready, and with flows at their limit.

use super::{super::level_summary::PassedOver, *};

/// A queue with few dedicated queues, and the numbers of the live requests.
struct Play {
    rig: Rig,
    random: Random,
    waiting: Vec<u32>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let dedicated_queues = 1 + random.below(6) as usize;
        let flow_limit = Some(2).filter(|_| seed % 2 == 0);
        let rig = Rig::new(Rules { dedicated_queues, flow_limit, ..Rules::default() });
        Self { rig, random, waiting: Vec::new() }
    }

    fn step(&mut self) {
        let (rig, random) = (&mut self.rig, &mut self.random);
        let inner = 1 + random.below(3) as InnerId;
        match random.below(13) {
            0..=4 => {
                let class = Class::new().flow(random.below(12)).cost(random.below(5) as u32);
                let class = class.priority(Priority::ALL[random.below(5) as usize]);
                self.waiting.push(rig.push_for(inner, class));
            }
            5 => {
                let dispatched = rig.pop();
                self.waiting.retain(|id| Some(*id) != dispatched);
            }
            6 => rig.take_back().into_iter().for_each(|entry| rig.queue.park(entry)),
            7 => rig.take_back().into_iter().for_each(|entry| rig.queue.put_back(entry)),
            8 if !self.waiting.is_empty() => {
                let at = random.below(self.waiting.len() as u64) as usize;
                rig.leaves(self.waiting.swap_remove(at));
            }
            9 => rig.queue.wake(inner),
            10 => rig.queue.purge(self.waiting.len()),
            11 => rig.queue.levels.each.iter_mut().for_each(|level| level.forget_idle()),
            _ => {
                let all = random.below(2) == 0;
                let victim = match all {
                    true => rig.queue.pop_oldest(&Gone::default()),
                    false => rig.queue.evict(&Gone::default()).map(|victim| victim.entry),
                };
                assert_eq!(victim.is_some(), !self.waiting.is_empty(), "{:?}", self.waiting);
                let victim = victim.map(|entry| entry.item.id);
                self.waiting.retain(|id| Some(*id) != victim);
            }
        }
    }
}

#[test]
fn a_request_is_dispatched_or_evicted_and_never_lost() {
    for seed in 0..1000 {
        let mut play = Play::new(seed);
        (0..400).for_each(|_| play.step());
        let Play { mut rig, mut waiting, .. } = play;
        let dispatched = rig.drain();
        waiting.retain(|id| !dispatched.contains(id));
        // Nothing is eligible any more. With a number for the gone, the tombstones are dropped.
        let levels = rig.queue.summaries(&[1000; Priority::ALL.len()], true).expect("flows came");
        let passed_over: u64 = levels.iter().map(|level| level.passed_over.requests).sum();
        assert_eq!(passed_over, waiting.len() as u64, "seed {seed}");
        let weights = waiting.iter().map(|id| rig.costs[*id as usize]).sum::<u64>();
        let passed_over: u64 = levels.iter().map(|level| level.passed_over.weight).sum();
        assert_eq!(passed_over, weights, "seed {seed}");
        rig.queue.set_flow_limit(None);
        (1..4).for_each(|inner| rig.queue.wake(inner));
        let levels = rig.queue.summaries(&[1000; Priority::ALL.len()], true).expect("flows came");
        assert!(levels.iter().all(|level| level.passed_over == PassedOver::default()));
        let mut left = rig.drain();
        left.sort_unstable();
        waiting.sort_unstable();
        assert_eq!(left, waiting, "seed {seed}");
        rig.queue.sweep();
        assert_eq!(rig.queue.len(), 0, "seed {seed}");
    }
}
