//! Orders: the oldest or the newest first.

use super::*;

#[test]
fn adaptive_lifo_turns_to_the_newest_when_the_queue_stands_and_back_when_it_does_not() {
    let lifo_after = Some(MS * 50);
    let mut rig = Rig::new(Rules { order: Order::AdaptiveLifo, lifo_after, ..Rules::default() });
    rig.push_many(3, &Class::new());
    rig.now += MS * 60;
    rig.push_many(3, &Class::new());
    assert_eq!(rig.pop_many(3), [0, 5, 4], "a single old request proves nothing, the second does");
    assert_eq!(rig.pop_many(2), [3, 2]);
    rig.now += MS * 10;
    rig.leaves(1);
    rig.push_many(3, &Class::new());
    assert_eq!(rig.drain(), [6, 7, 8]);
}

#[test]
fn the_flow_that_stands_turns_and_the_others_do_not() {
    let lifo_after = Some(MS * 50);
    let mut rig = Rig::new(Rules { order: Order::AdaptiveLifo, lifo_after, ..Rules::default() });
    rig.push_many(4, &flow("long"));
    rig.now += MS * 60;
    rig.push_many(2, &flow("short"));
    assert_eq!(rig.drain(), [0, 4, 3, 5, 2, 1]);
}

#[test]
fn controlled_delay_removes_what_has_stood_too_long() {
    let mut rig = Rig::new(Rules { delay: Some(Some(MS * 5)), ..Rules::default() });
    rig.push_many(40, &Class::new());
    let mut removed = Vec::new();
    for _ in 0..15 {
        rig.now += MS * 10;
        while let Some(Next::Remove(entry, reason)) =
            rig.queue.pop(rig.now, &NO_TIMES, &mut Charge::default())
        {
            assert_eq!(reason, Reason::Delay);
            removed.push(entry.item.id);
        }
    }
    assert!(removed.is_sorted() && removed.len() > 20, "the oldest: {removed:?}");
}
