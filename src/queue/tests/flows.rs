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
        let mut charge = Charge::default();
        let Some(Next::Dispatch(entry)) = rig.queue.pop(rig.now, &NO_TIMES, &mut charge) else {
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

/// Serves always waiting flows of these weights, for `calls` calls. Returns the time of each flow.
/// A call of the n-th flow takes `time(n)`.
fn serve(rig: &mut Rig, weights: &[u32], calls: u32, time: impl Fn(usize) -> Duration) -> Vec<f64> {
    let classes: Vec<_> = (0_u64..)
        .zip(weights)
        .map(|(nth, weight)| Class::new().flow(nth).weight(*weight))
        .collect();
    let mut had = vec![0.0; weights.len()];
    classes.iter().for_each(|class| drop(rig.push_many(3, class)));
    for _ in 0..calls {
        let mut charge = Charge::default();
        let Some(Next::Dispatch(entry)) = rig.queue.pop(rig.now, &NO_TIMES, &mut charge) else {
            panic!("all flows wait")
        };
        let of = |class: &Class| class.rank.flow == entry.rank.flow;
        let nth = classes.iter().position(of).expect("one of them");
        rig.queue.settle(charge.id.expect("there are several flows"), time(nth));
        had[nth] += time(nth).as_secs_f64();
        rig.items.clear();
        rig.push(classes[nth].clone());
    }
    had
}

#[test]
fn flows_get_time_in_the_ratio_of_their_weights() {
    let weights = [1, 2, 4, 1000];
    // The lightest calls are charged the minimum, a microsecond.
    for [first, last] in [[20_000, 20_000], [100_000, 5_000], [3, 1]] {
        let mut rig = Rig::order(Order::Fifo);
        let time = |nth| Duration::from_micros(if nth == 0 { first } else { last });
        let had = serve(&mut rig, &weights, 200_000, time);
        let each: Vec<_> = had.iter().zip(weights).map(|(had, of)| had / f64::from(of)).collect();
        let even = each.iter().all(|time| (0.98..1.02).contains(&(time / each[3])));
        assert!(even, "{each:?} s for a weight of 1, at {first} and {last} µs");
    }
}

#[test]
fn the_last_weight_said_holds_for_the_whole_flow() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(40, &flow("a"));
    rig.push_many(40, &flow("b"));
    rig.push(flow("a").weight(3));
    let next = rig.pop_many(40);
    let of_a = next.iter().filter(|id| **id < 40).count();
    assert!((29..=31).contains(&of_a), "{of_a} of 40");
    rig.push(flow("a"));
    let next = rig.pop_many(18);
    let of_a = next.iter().filter(|id| **id < 40).count();
    assert!((8..=10).contains(&of_a), "{of_a} of 18");
}

#[test]
fn the_flow_with_the_most_for_its_weight_gives_way() {
    let mut rig = Rig::order(Order::Fifo);
    let heavy = rig.push_many(6, &flow("heavy").weight(4));
    let light = rig.push_many(3, &flow("light"));
    let mut victim = || {
        let victim = rig.queue.evict(&Gone::default()).expect("all wait");
        (victim.entry.item.id, victim.over_share)
    };
    assert_eq!(victim(), (light[0], true), "three are more for one than six for four");
    assert_eq!(victim(), (light[1], true));
    assert_eq!(victim(), (heavy[0], true), "now the other is longer");
}

#[test]
fn a_weight_that_changes_changes_who_is_longest() {
    let mut rig = Rig::order(Order::Fifo);
    let a = rig.push_many(6, &flow("a"));
    let b = rig.push_many(4, &flow("b"));
    let mut victim = |class: Class| {
        rig.push(class);
        rig.queue.evict(&Gone::default()).map(|victim| victim.entry.item.id)
    };
    assert_eq!(victim(flow("a").weight(3)), Some(b[0]));
    assert_eq!(victim(flow("a").weight(1)), Some(a[0]));
    assert_eq!(victim(flow("a").weight(1000)), Some(b[1]));
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
    let level = &rig.queue.levels.each[Priority::Normal.index()];
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
    let level = &rig.queue.levels.each[Priority::Normal.index()];
    assert!(level.flows() <= 20 + 64 + 128, "{}", level.flows());
}

#[test]
fn beyond_the_bound_flows_share_queues_and_are_served_all_the_same() {
    let mut rig = Rig::new(Rules { dedicated_queues: 4, ..Rules::default() });
    for nth in 0..1000_u32 {
        rig.push_many(3, &Class::new().flow(nth));
    }
    let level = &rig.queue.levels.each[Priority::Normal.index()];
    assert!(level.flows() <= 4 + 128, "{}", level.flows());
    let mut all = rig.drain();
    all.sort_unstable();
    assert_eq!(all, (0..3000).collect::<Vec<_>>());
}

#[test]
fn without_a_look_a_summary_bounds_the_longest_flow() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(3, &flow("long"));
    rig.push_many(2, &flow("short"));
    let mut of = |is_filling| {
        let levels = rig.queue.summaries(&Gone::default(), is_filling).expect("flows have come");
        let level = levels[Priority::Normal.index()];
        (level.shares, level.surely_longest, level.longest.weight)
    };
    assert_eq!(of(true), (2, 3, 3));
    assert_eq!(of(false), (2, 0, 5));
}
