//! Fairness between flows.

use super::*;

#[test]
fn a_short_flow_does_not_wait_for_a_long_one() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(4, &flow("long"));
    rig.push(flow("b"));
    rig.push(flow("c"));
    rig.push(Class::new());
    assert_eq!(rig.drain(), [0, 4, 5, 6, 1, 2, 3]);
}

#[test]
fn shares_are_of_time_and_corrected_when_calls_end() {
    let mut rig = Rig::order(Order::Fifo);
    let (slow, fast) = (flow("slow"), flow("fast"));
    rig.push(slow.clone());
    rig.push(fast.clone());
    let (mut slow_time, mut fast_time) = (0, 0);
    for _ in 0..10_000 {
        let Some(Next::Dispatch(entry, charge)) = rig.queue.pop(rig.now, &NO_TIMES) else {
            panic!("both flows wait")
        };
        let id = charge.id.expect("there are two flows");
        rig.items.clear();
        if entry.rank == slow.rank {
            rig.queue.settle(id, MS * 100);
            slow_time += 100;
            rig.push(slow.clone());
        } else {
            rig.queue.settle(id, MS * 5);
            fast_time += 5;
            rig.push(fast.clone());
        }
    }
    let ratio = f64::from(slow_time) / f64::from(fast_time);
    assert!((0.99..1.01).contains(&ratio), "{slow_time} ms and {fast_time} ms");
}

#[test]
fn a_flow_that_comes_back_has_saved_up_nothing() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(100, &flow("a"));
    rig.pop_many(50);
    rig.push_many(10, &flow("b"));
    let next = rig.pop_many(20);
    let of_b = next.iter().filter(|id| **id >= 100).count();
    assert_eq!(of_b, 10, "they take turns: {next:?}");
    assert!(!next[..11].iter().all(|id| *id >= 100));
}

#[test]
fn a_flow_with_one_at_a_time_does_not_overtake_the_others() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(100, &flow("patient"));
    let mut eager = rig.push(flow("eager"));
    let mut turns = 0;
    for _ in 0..60 {
        if rig.pop() == Some(eager) {
            turns += 1;
            // The next comes as soon as the last is served: each time the queue is empty.
            eager = rig.push(flow("eager"));
        }
    }
    assert_eq!(turns, 30);
}

#[test]
fn the_longest_flow_gives_way_with_its_oldest() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push(flow("short"));
    rig.push_many(3, &flow("long"));
    let mut victim =
        || rig.queue.evict(&Gone::default()).map(|victim| (victim.entry.item.id, victim.reason));
    assert_eq!(victim(), Some((1, Reason::Evicted)));
    assert_eq!(victim(), Some((2, Reason::Evicted)));
}

#[test]
fn idle_flows_cost_nothing() {
    let mut rig = Rig::order(Order::Fifo);
    for nth in 0..50_000_u32 {
        rig.push(Class::new().flow(nth));
        rig.pop();
        rig.items.clear();
        rig.queue.purge(0);
    }
    let level = &rig.queue.levels[Priority::Normal.index()];
    assert!(level.flows() <= 65, "{}", level.flows());
}

/// A client that invents flows can only fill the shared queues.
#[test]
fn invented_flows_are_bounded_and_take_no_more_than_half() {
    let mut rig = Rig::order(Order::Fifo);
    let honest = |nth: u64| Class::new().flow(("honest", nth % 20));
    for nth in 0..100 {
        rig.push(honest(nth));
        rig.pop();
    }
    let mut invented = Random::new(7);
    for _ in 0..2000 {
        rig.push(Class::new().flow(invented.next()));
    }
    let mut served = 0;
    for nth in 0..10_000 {
        // A round of arrivals: an honest flow and nine invented flows. Two are served, and the
        // longest gives way to the rest.
        let id = rig.push(honest(nth));
        for _ in 0..9 {
            rig.push(Class::new().flow(invented.next()));
        }
        let next = rig.pop_many(2);
        served += u32::from(next.contains(&id));
        while rig.queue.len() > 2000 {
            let victim = rig.queue.evict(&Gone::default()).expect("many wait").entry;
            assert_ne!(victim.item.id, id, "an honest flow gives way to no invented flow");
        }
    }
    assert!(served > 9_900, "{served} of 10 000 honest ones went at once");
    let level = &rig.queue.levels[Priority::Normal.index()];
    assert!(level.flows() <= 20 + 64 + 128, "{}", level.flows());
}

#[test]
fn beyond_the_bound_flows_share_queues_and_are_served_all_the_same() {
    let mut rig = Rig::new(Rules { dedicated_queues: 4, ..Rules::default() });
    for nth in 0..1000_u32 {
        rig.push_many(3, &Class::new().flow(nth));
    }
    let level = &rig.queue.levels[Priority::Normal.index()];
    assert!(level.flows() <= 4 + 128, "{}", level.flows());
    let mut all = rig.drain();
    all.sort_unstable();
    assert_eq!(all, (0..3000).collect::<Vec<_>>());
}
