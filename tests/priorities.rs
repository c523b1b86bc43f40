//! Priorities: who goes first, who gives way, and who is refused before others.

mod support;

use std::time::Duration;

use support::{EXECUTIONS, builder, gate::Gate, reason, rejection, settle};
use tokio::time::{Instant, advance};
use tokio_test::task;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    Builder, ByResult, Class, LoadLevelLayer, Overflow, Priority, Stats,
    error::{Reason, Rejected},
};

/// The request says its own priority: the hundreds are its position among them.
fn classify(id: &u32) -> Class {
    Class::new().priority(Priority::ALL[*id as usize / 100])
}

const CRITICAL: u32 = 0;
const HIGH: u32 = 100;
const NORMAL: u32 = 200;
const LOW: u32 = 300;
const BACKGROUND: u32 = 400;

type Leveler = LoadLevelLayer<fn(&u32) -> Class, ByResult>;

fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as fn(&u32) -> Class).build().expect("valid")
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_are_called_first() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::open();
        let layer = layer(builder(100, 1).execution(execution).guaranteed_share(0.0));
        let mut service = layer.layer(gate.service());
        layer.handle().pause();
        let ids = [BACKGROUND, LOW, NORMAL, NORMAL + 1, HIGH, CRITICAL];
        let calls = ids.map(|id| tokio::spawn(service.call(id)));
        layer.handle().resume();
        for call in calls {
            call.await.expect("no panic").expect("served");
        }
        assert_eq!(gate.called(), [CRITICAL, HIGH, NORMAL, NORMAL + 1, LOW, BACKGROUND]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_keeps_its_share_under_a_flood_of_a_higher_one() {
    let _t = support::trace_init();
    for (share, served) in [(0.0, 0..=0), (0.05, 19..=21), (0.25, 99..=101)] {
        let gate = Gate::new();
        let layer = layer(builder(2000, 1).guaranteed_share(share));
        let mut service = layer.layer(gate.service());
        layer.handle().pause();
        let mut calls: Vec<_> = (0..500).map(|_| service.call(LOW)).collect();
        calls.extend((0..500).map(|_| service.call(HIGH)));
        layer.handle().resume();
        // Each takes a millisecond, whatever its priority.
        for nth in 0..400 {
            settle().await;
            advance(Duration::from_millis(1)).await;
            gate.finish(gate.called()[nth]);
        }
        let low = gate.called()[..400].iter().filter(|id| **id == LOW).count();
        assert!(served.contains(&low), "{low} of 400 at a share of {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_pushes_out_the_oldest_of_the_lowest_priority_whatever_the_overflow() {
    let _t = support::trace_init();
    for overflow in [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest] {
        let gate = Gate::new();
        let layer = layer(builder(3, 1).overflow(overflow));
        let mut service = layer.layer(gate.service());
        let running = service.call(NORMAL);
        let [low, next_low, background] = [LOW, LOW + 1, BACKGROUND].map(|id| service.call(id));
        settle().await;
        let high = service.call(HIGH);
        settle().await;
        assert_eq!(reason(background.await), Reason::Evicted, "{overflow:?}");
        let higher = service.call(CRITICAL);
        settle().await;
        assert_eq!(reason(low.await), Reason::Evicted, "{overflow:?}");
        assert_eq!(layer.handle().stats().queued, 3, "the bound holds");
        gate.finish_all();
        for call in [running, next_low, high, higher] {
            call.await.expect("served");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_gives_way_to_an_equal_or_a_lower_one() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(2, 1));
    let mut service = layer.layer(gate.service());
    let _calls = [NORMAL, NORMAL + 1, NORMAL + 2].map(|id| task::spawn(service.call(id)));
    for id in [NORMAL + 3, LOW, BACKGROUND] {
        assert_eq!(reason(service.call(id).await), Reason::Full);
    }
    assert_eq!(layer.handle().stats().removed.total(), 0);
}

/// Trap T40: what was accepted and is then pushed out was never started, and is told so.
#[tokio::test(start_paused = true)]
async fn one_who_is_pushed_out_was_never_started_and_frees_its_place_at_once() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(1, 1));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(NORMAL));
    let low = service.call(LOW);
    settle().await;
    advance(Duration::from_millis(30)).await;
    let _high = task::spawn(service.call(HIGH));
    let evicted = rejection(low.await);
    assert_eq!((evicted.reason(), evicted.waited()), (Reason::Evicted, Duration::from_millis(30)));
    assert_eq!(gate.called(), [NORMAL]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_urgent_ones_is_let_in_as_far_as_others_can_give_way() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(4, 1));
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..5).map(|nth| task::spawn(service.call(LOW + nth))).collect();
    settle().await;
    // In one go, before anybody has given way.
    let urgent: Vec<_> = (0..10).map(|nth| task::spawn(service.call(CRITICAL + nth))).collect();
    let refused = layer.handle().stats().refused.full;
    settle().await;
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.priority(Priority::Critical).queued), (4, 4));
    assert_eq!((refused, stats.removed.evicted, stats.removed.full), (6, 4, 0));
    drop(urgent);
    assert_eq!(layer.handle().stats().queued, 0);
}

struct Flood {
    /// The users of low requests that were served in the last second, one for each request.
    served: Vec<u32>,
    /// The same of those that were refused.
    refused: Vec<u32>,
    /// How many of these are to come back in a second or so.
    later: usize,
    /// All requests that were told that their priority is cut off.
    cut_off: Vec<Rejected>,
    stats: Stats,
}

/// Runs a flood of two priorities for so many seconds: 100 high and 300 low requests a second, at
/// 200 that can be served. Each low one is of one of 50 users.
async fn flood(seconds: u32) -> Flood {
    let classify = |id: &u32| match id % 4 {
        0 => Class::new().priority(Priority::High),
        _ => Class::new().priority(Priority::Low).flow(id % 50),
    };
    let layer = builder(20, 1).classify_request(classify).build().expect("valid");
    let inner = tower::service_fn(|_: u32| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok::<_, BoxError>(())
    });
    let mut service = layer.layer(inner);
    let start = Instant::now();
    let mut calls = Vec::new();
    for nth in 0..seconds * 400 {
        calls.push((nth, tokio::spawn(service.call(nth))));
        tokio::time::sleep_until(start + Duration::from_micros(2500) * nth).await;
    }
    let (mut served, mut refused, mut later) = (Vec::new(), Vec::new(), 0);
    let mut cut_off = Vec::new();
    for (nth, call) in calls {
        let answer = call.await.expect("no panic");
        let rejected = answer.as_ref().err().and_then(|error| error.downcast_ref::<Rejected>());
        cut_off.extend(rejected.filter(|it| it.reason() == Reason::CutOff).cloned());
        if nth % 4 != 0 && nth >= (seconds - 1) * 400 {
            if answer.is_ok() {
                served.push(nth % 50);
            } else {
                refused.push(nth % 50);
                let after = rejection(answer).retry_after().expect("known");
                later += usize::from(after >= Duration::from_millis(800));
            }
        }
    }
    Flood { served, refused, later, cut_off, stats: layer.handle().stats() }
}

#[tokio::test(start_paused = true)]
async fn under_lasting_overload_the_same_users_of_the_lower_priority_are_refused() {
    let Flood { served, refused, later, cut_off: _, stats } = flood(5).await;
    let high = stats.priority(Priority::High);
    assert_eq!((high.refused.total(), high.removed.total()), (0, 0));
    let low = stats.priority(Priority::Low);
    assert!(low.refused.cut_off > 400, "{stats:?}");
    assert!(later > refused.len() / 2, "{later} of {} are told of the cut", refused.len());
    // Some are always refused but for the few that keep the share of the priority.
    let count = |users: &[u32], user: u32| users.iter().filter(|other| **other == user).count();
    let lucky = (0..50).filter(|user| count(&refused, *user) == 0).count();
    let unlucky =
        (0..50).filter(|user| count(&refused, *user) >= count(&served, *user) * 2).count();
    assert!(lucky >= 5 && unlucky >= 20, "{lucky} were never refused, {unlucky} mostly");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_is_cut_off_is_told_so_and_counted_as_that() {
    let Flood { cut_off, stats, .. } = flood(5).await;
    assert_eq!(cut_off.len() as u64, stats.refused.cut_off);
    assert_eq!(stats.priority(Priority::Low).refused.cut_off, stats.refused.cut_off);
    assert_eq!((stats.removed.cut_off, stats.refused.bypass), (0, 0));
    assert!(cut_off.len() > 400, "{stats:?}");
    // No sooner than the next window, less the spread, however short the queue.
    let soonest = cut_off.iter().filter_map(Rejected::retry_after).min();
    assert!(soonest >= Some(Duration::from_millis(800)), "{soonest:?}");
    assert!(cut_off.iter().all(|rejected| rejected.retry_after().is_some()));
    assert!(cut_off.iter().any(|rejected| rejected.queued() < 20), "all places were taken");
}

#[tokio::test(start_paused = true)]
async fn counts_by_priority_add_up_to_those_of_all() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(2, 1));
    let mut service = layer.layer(gate.service());
    let ids = [NORMAL, LOW, BACKGROUND, NORMAL, BACKGROUND, HIGH, CRITICAL];
    let _calls = ids.map(|id| task::spawn(service.call(id)));
    settle().await;
    let stats = layer.handle().stats();
    let of = |count: fn(&tower_load_leveling::stats::PriorityStats) -> u64| {
        Priority::ALL.iter().map(|one| count(stats.priority(*one))).sum::<u64>()
    };
    assert_eq!(of(|one| one.admitted), stats.admitted);
    assert_eq!(of(|one| one.refused.total()), stats.refused.total());
    assert_eq!(of(|one| one.removed.total()), stats.removed.total());
    assert_eq!(of(|one| one.queued as u64), stats.queued as u64);
    let books = stats.removed.total() + (stats.queued + stats.in_flight) as u64;
    assert_eq!(stats.admitted, books);
    assert!(stats.refused.total() > 0 && stats.removed.total() > 0, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_cut_off_when_the_overload_is_long_over() {
    let _t = support::trace_init();
    let layer = layer(builder(1000, 4).max_wait(Duration::from_millis(500)));
    let mut service = layer.layer(tower::service_fn(|_: u32| async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok::<_, BoxError>(())
    }));
    // 400 a second, where 100 can be served.
    for nth in 0..2000 {
        tokio::spawn(service.call([HIGH, LOW][nth % 2]));
        tokio::time::sleep(Duration::from_micros(2500)).await;
    }
    let cut_off = || layer.handle().stats().priority(Priority::Low).refused.cut_off;
    assert!(cut_off() > 100, "{}", cut_off());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let before = cut_off();
    let _calls: Vec<_> = (0..40).map(|_| tokio::spawn(service.call(LOW))).collect();
    settle().await;
    assert_eq!(cut_off(), before);
}

#[tokio::test(start_paused = true)]
async fn nobody_gives_way_to_one_for_whom_that_is_not_enough() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let classify = |id: &u32| match id {
        0 => Class::new().priority(Priority::Low),
        1 => Class::new().cost(4),
        _ => Class::new(),
    };
    let layer = builder(3, 4).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running: Vec<_> = (10..14).map(|id| task::spawn(service.call(id))).collect();
    let _low = task::spawn(service.call(0));
    let _waiting: Vec<_> = (20..22).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    assert_eq!(reason(service.call(1).await), Reason::Full);
    settle().await;
    assert_eq!(layer.handle().stats().removed.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_has_to_give_way_than_is_missing() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let classify = |cost: &u32| match cost {
        2 => Class::new().priority(Priority::Low).cost(2),
        cost => Class::new().priority(Priority::High).cost(*cost),
    };
    let layer = builder(6, 4).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(4));
    let _high = task::spawn(service.call(3));
    let low = service.call(2);
    // One place is free, and two are missing.
    let _newcomer = task::spawn(service.call(3));
    assert_eq!(reason(low.await), Reason::Evicted);
    assert_eq!(layer.handle().stats().priority(Priority::High).queued, 2);
}

#[tokio::test(start_paused = true)]
async fn who_gives_way_to_a_higher_priority_was_not_over_its_share() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let classify = |id: &u32| match id {
        0 => Class::new().priority(Priority::Critical),
        id => Class::new().priority(Priority::Low).flow(id),
    };
    let layer = builder(2, 1).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(1));
    let waiting = [2, 3].map(|id| Box::pin(service.call(id)));
    settle().await;
    let _critical = task::spawn(service.call(0));
    let evicted = rejection(futures::future::select_all(waiting).await.0);
    assert_eq!((evicted.reason(), evicted.is_over_share()), (Reason::Evicted, false));
}

/// Services that were polled ready are no standing queue.
#[tokio::test(start_paused = true)]
async fn reserved_places_do_not_look_like_overload() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 4).overflow(Overflow::Wait));
    let mut service = layer.layer(tower::service_fn(|_: u32| async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok::<_, BoxError>(())
    }));
    let mut low = service.clone();
    for nth in 0..250 {
        // Half of what can be served.
        std::future::poll_fn(|cx| service.poll_ready(cx)).await.expect("never fails");
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::spawn(service.call(HIGH));
        for _ in 0..if nth % 25 == 0 { 8 } else { 0 } {
            tokio::spawn(low.call(LOW));
        }
    }
    assert_eq!(layer.handle().stats().refused.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_one_of_a_lower_priority_keeps_its_share_while_higher_ones_trickle_in() {
    let _t = support::trace_init();
    const HEAVY: u32 = 1_000_000;
    let classify = |id: &u32| match *id {
        HEAVY => Class::new().priority(Priority::Low).cost(4),
        _ => Class::new().priority(Priority::High),
    };
    let gate = Gate::new();
    let layer = builder(100, 4).guaranteed_share(0.25).request_classifier(classify);
    let mut service = layer.build().expect("valid").layer(gate.service());
    let mut calls = vec![service.call(0), service.call(HEAVY)];
    settle().await;
    // One of the high ones always runs, and none of them waits for longer than it takes to dispatch
    // it.
    for id in 1..50 {
        calls.push(service.call(id));
        settle().await;
        advance(Duration::from_millis(1)).await;
        let finished = gate.finished();
        for earlier in gate.called() {
            if earlier < id && !finished.contains(&earlier) {
                gate.finish(earlier);
            }
        }
        settle().await;
        if gate.called().contains(&HEAVY) {
            return;
        }
    }
    panic!("it was never its turn");
}
