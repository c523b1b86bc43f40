//! Requests of one rank, and the first that differs.

use super::*;

#[test]
fn the_first_request_that_differs_finds_the_others_in_their_order() {
    let mut rig = Rig::new(Rules::default());
    let plain = rig.push_many(4, &Class::new());
    rig.leaves(plain[1]);
    let high = rig.push(priority(Priority::High));
    let last = rig.push(Class::new());
    assert_eq!(rig.drain(), [high, plain[0], plain[2], plain[3], last]);
}

#[test]
fn the_requests_of_an_unready_inner_let_others_by_and_keep_their_order() {
    let mut rig = Rig::new(Rules::default());
    rig.push_for_each(&[A, B, A, B]);
    rig.park();
    assert_eq!(rig.pop_many(2), [1, 3]);
    rig.push_for_each(&[B]);
    rig.queue.wake(A);
    assert_eq!(rig.drain(), [0, 2, 4]);
    rig.push_for_each(&[A, B]);
    assert_eq!(rig.drain(), [5, 6]);
}

#[test]
fn without_flows_the_highest_priority_goes_first_and_of_equals_the_oldest() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut rig = Rig::new(Rules { guaranteed_share: 0.0, ..Rules::default() });
        let mut waiting: Vec<(usize, u32)> = Vec::new();
        for step in 0..400 {
            let case = format!("seed {seed}, step {step}");
            match random.below(12) {
                0..=4 => {
                    // Long stretches without any that differs.
                    let differs = step % 100 > 60 && random.below(3) == 0;
                    let priority = if differs { Priority::High } else { Priority::Normal };
                    let id = rig.push(Class::new().priority(priority));
                    waiting.push((priority.index(), id));
                }
                5..=7 => {
                    let next = waiting.iter().min().copied();
                    assert_eq!(rig.pop(), next.map(|(_, id)| id), "{case}");
                    waiting.retain(|request| Some(*request) != next);
                }
                8 if !waiting.is_empty() => {
                    let at = random.below(waiting.len() as u64) as usize;
                    rig.leaves(waiting.remove(at).1);
                }
                9 => rig.take_back().into_iter().for_each(|entry| rig.queue.put_back(entry)),
                10 => rig.queue.sweep(),
                _ => {
                    let last = waiting.iter().map(|(level, _)| *level).max();
                    let mut lowest = waiting.iter().filter(|(level, _)| Some(*level) == last);
                    let oldest = lowest.next().copied();
                    let victim = rig.queue.pop_oldest(&Gone::default());
                    assert_eq!(victim.map(|entry| entry.item.id), oldest.map(|(_, id)| id));
                    waiting.retain(|request| Some(*request) != oldest);
                }
            }
            let oldest = waiting.iter().map(|(_, id)| *id).min();
            assert_eq!(rig.queue.oldest().map(|entry| entry.item.id), oldest, "{case}");
        }
        rig.queue.sweep();
        assert_eq!(rig.queue.len(), waiting.len(), "seed {seed}");
    }
}
