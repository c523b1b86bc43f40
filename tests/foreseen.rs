//! Who would wait, or run, in vain; and the orders that keep the wait short.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use support::{builder, gate::Gate, reason, rejection, settle};
use tokio::time::{Instant, advance};
use tokio_test::task;
use tower::{Layer, Service};
use tower_load_leveling::{Builder, ByResult, Class, LoadLevelLayer, Order, error::Reason};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The request says how many milliseconds its caller waits; 0 is for ever.
fn classify(left: &u32) -> Class {
    match left {
        0 => Class::new(),
        left => Class::new().deadline(Instant::now() + ms(u64::from(*left))),
    }
}

type Leveler = LoadLevelLayer<fn(&u32) -> Class, ByResult>;

fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as fn(&u32) -> Class).build().expect("valid")
}

/// An inner that takes so long, whatever is asked of it.
fn takes(
    time: u64,
) -> impl Service<u32, Response = (), Error = tower::BoxError, Future: Send + 'static> + Clone {
    tower::service_fn(move |_: u32| async move {
        tokio::time::sleep(ms(time)).await;
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_refused_at_the_door() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 1));
    let mut service = layer.layer(takes(100));
    // Known after eight with like deadlines.
    for _ in 0..10 {
        service.call(500).await.expect("served");
    }
    let _calls: Vec<_> = (0..11).map(|_| task::spawn(service.call(10_000))).collect();
    settle().await;
    let start = Instant::now();
    assert_eq!(reason(service.call(500).await), Reason::WouldMissDeadline);
    assert_eq!(start.elapsed(), Duration::ZERO, "at once");
    let _in_time = task::spawn(service.call(2000));
    assert_eq!(layer.handle().stats().refused.would_miss_deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn who_could_never_be_in_time_is_not_told_to_come_back() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 2));
    let mut service = layer.layer(takes(100));
    for _ in 0..10 {
        service.call(70).await.expect("nothing else runs");
    }
    let _running = task::spawn(service.call(10_000));
    let _probe = task::spawn(service.call(70));
    let rejected = rejection(service.call(70).await);
    assert_eq!((rejected.reason(), rejected.retry_after()), (Reason::WouldMissDeadline, None));
}

#[tokio::test(start_paused = true)]
async fn who_can_not_be_served_in_time_is_skipped_at_its_turn() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 4));
    let mut service = layer.layer(takes(100));
    for _ in 0..10 {
        service.call(150).await.expect("served");
    }
    let _running = [0; 4].map(|_| task::spawn(service.call(10_000)));
    settle().await;
    // There are 50 ms left for these when the running ones have ended. One is let through since
    // then nothing runs, and one as a probe at the door.
    let calls = [150; 4].map(|left| service.call(left));
    let answers = futures::future::join_all(calls).await;
    let skipped: Vec<_> = answers.into_iter().filter(Result::is_err).map(reason).collect();
    assert_eq!(skipped, [Reason::WouldMissDeadline; 2]);
    assert_eq!(layer.handle().stats().removed.would_miss_deadline, 2);
}

#[tokio::test(start_paused = true)]
async fn max_wait_is_not_a_deadline() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 1).max_wait(ms(150)));
    let mut service = layer.layer(takes(100));
    for _ in 0..10 {
        service.call(10_000).await.expect("served");
    }
    let calls: Vec<_> = (0..4).map(|_| service.call(0)).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.is_ok());
    }
    assert_eq!(answers, [true, true, false, false]);
    let stats = layer.handle().stats();
    assert_eq!((stats.removed.max_wait, stats.removed.would_miss_deadline), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn when_nothing_runs_everybody_may() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 1));
    let mut service = layer.layer(takes(100));
    for _ in 0..20 {
        service.call(10).await.expect("its deadline does not cut it");
    }
}

/// Trap T36. Returns how many were refused of those that came every so many milliseconds, after the
/// inner had become fast.
async fn refused_after_a_slow_time(layer: Leveler, every: u64, calls: u32) -> u64 {
    let takes = Arc::new(AtomicU64::new(500));
    let now_takes = Arc::clone(&takes);
    let mut service = layer.layer(tower::service_fn(move |left: u32| {
        // Those without a deadline are long ones of another kind, that always run.
        let time = if left == 0 { 5000 } else { now_takes.load(SeqCst) };
        async move {
            tokio::time::sleep(ms(time)).await;
            Ok::<_, tower::BoxError>(())
        }
    }));
    for _ in 0..9 {
        // While nothing is known, the deadline does not cut a call. A kind is refused from then on.
        let _ = service.call(100).await;
    }
    let _ = service.call(100).await;
    takes.store(1, SeqCst);
    let before = layer.handle().stats().refused.would_miss_deadline;
    let mut long = tokio::spawn(service.call(0));
    for _ in 0..calls {
        advance(ms(every)).await;
        settle().await;
        if long.is_finished() {
            long = tokio::spawn(service.call(0));
        }
        tokio::spawn(service.call(100));
    }
    layer.handle().stats().refused.would_miss_deadline - before
}

#[tokio::test(start_paused = true)]
async fn it_does_not_lock_itself_out() {
    let _t = support::trace_init();
    let refused = refused_after_a_slow_time(layer(builder(100, 4)), 5, 20_000).await;
    assert!(refused < 1000, "{refused} of 20 000, in 100 seconds");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_lock_a_kind_out() {
    let _t = support::trace_init();
    let kind = (|left: &u32| classify(left).kind(*left)) as fn(&u32) -> Class;
    let layer = builder(100, 4).request_classifier(kind).build().expect("valid");
    let refused = refused_after_a_slow_time(layer, 10, 30_000).await;
    // A probe of 500 ms may run every 250 s: a 2000th of the time of four slots.
    assert!((24_000..26_000).contains(&refused), "{refused} of 30 000, in 300 seconds");
}

#[tokio::test(start_paused = true)]
async fn newest_first_lets_the_old_ones_wait_until_they_are_late() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(100, 1).order(Order::Lifo).max_wait(ms(100)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(0));
    let old = service.call(1);
    settle().await;
    advance(ms(50)).await;
    let _new = task::spawn(service.call(2));
    settle().await;
    gate.finish(0);
    settle().await;
    assert_eq!(gate.called(), [0, 2]);
    let start = Instant::now();
    assert_eq!(reason(old.await), Reason::MaxWait);
    assert!((ms(50)..=ms(52)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_stale_request_after_an_idle_time_does_not_turn_the_order() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let builder = builder(100, 1).order(Order::AdaptiveLifo).lifo_after(ms(50));
    let layer = builder.build().expect("valid");
    let mut service = layer.layer(gate.service());
    layer.handle().pause();
    let _stale = task::spawn(service.call(0));
    advance(ms(10_000)).await;
    let _fresh: Vec<_> = (1..4).map(|id| task::spawn(service.call(id))).collect();
    layer.handle().resume();
    for id in 0..4 {
        settle().await;
        gate.finish(id);
    }
    assert_eq!(gate.called(), [0, 1, 2, 3]);
}

/// How many of a flood of so many were removed by controlled delay: 16 at once run, 5 ms each.
async fn removed_by_delay(target: Option<Duration>, calls: u32, pause: u64) -> u64 {
    let layer = layer(builder(10_000, 16).controlled_delay(target));
    let mut service = layer.layer(takes(5));
    for nth in 0..calls {
        tokio::spawn(service.call(0));
        if nth % 10 == 0 {
            tokio::time::sleep(ms(pause)).await;
        }
    }
    layer.handle().idle().await;
    layer.handle().stats().removed.delay
}

#[tokio::test(start_paused = true)]
async fn controlled_delay_cuts_a_queue_that_stands_and_leaves_a_burst_alone() {
    // 32 are served in 10 ms.
    assert_eq!(removed_by_delay(None, 300, 0).await, 0, "a burst that is over in 100 ms");
    assert_eq!(removed_by_delay(None, 5000, 10).await, 0, "less than can be served");
    let removed = removed_by_delay(None, 20_000, 2).await;
    assert!((4_000..9_000).contains(&removed), "50 arrive for each 32: {removed} of 20 000");
    let fewer = removed_by_delay(Some(ms(500)), 20_000, 2).await;
    assert!(fewer < removed, "with a longer target {fewer}");
}

/// Trap T27: less than a millisecond is not nothing, and nothing is not for ever.
#[tokio::test(start_paused = true)]
async fn the_shortest_deadlines_count() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let classify = |micros: &u32| {
        Class::new().deadline(Instant::now() + Duration::from_micros(u64::from(*micros)))
    };
    let layer = builder(10, 1).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(gate.service());
    assert_eq!(reason(service.call(0).await), Reason::Deadline);
    let _running = task::spawn(service.call(1));
    let start = Instant::now();
    assert_eq!(reason(service.call(300).await), Reason::Deadline);
    assert!(start.elapsed() <= ms(2), "{:?}", start.elapsed());
    assert_eq!(gate.called(), [1]);
}

/// Trap T36, in the queue.
#[tokio::test(start_paused = true)]
async fn whoever_is_let_in_to_find_out_is_let_through_to_the_inner() {
    let _t = support::trace_init();
    let layer = layer(builder(100, 3));
    let takes = Arc::new(AtomicU64::new(1000));
    let (now_takes, seen) = (Arc::clone(&takes), Arc::new(AtomicU64::new(0)));
    let counts = Arc::clone(&seen);
    let mut service = layer.layer(tower::service_fn(move |left: u32| {
        // Those without a deadline are others, that keep the limit busy.
        counts.fetch_add(u64::from(left > 0), SeqCst);
        let time = if left == 0 { 10 } else { now_takes.load(SeqCst) };
        async move {
            tokio::time::sleep(ms(time)).await;
            Ok::<_, tower::BoxError>(())
        }
    }));
    for _ in 0..10 {
        service.call(500).await.expect("nothing else runs");
    }
    takes.store(1, SeqCst);
    for _ in 0..6 {
        let mut other = service.clone();
        tokio::spawn(async move { while other.call(0).await.is_ok() {} });
    }
    for _ in 0..4000 {
        tokio::time::sleep(ms(5)).await;
        tokio::spawn(service.call(500));
    }
    assert!(seen.load(SeqCst) > 1000, "{} of 4000 in 20 seconds", seen.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn heavy_requests_do_not_look_like_many() {
    let _t = support::trace_init();
    let classify = |_: &u32| Class::new().cost(100).deadline(Instant::now() + ms(2000));
    let layer = builder(10_000, 100).classify_request(classify).build().expect("valid");
    let service = layer.layer(takes(10));
    // Each runs alone, so the last of six waits 50 ms.
    for _ in 0..6 {
        let mut service = service.clone();
        tokio::spawn(async move { while service.call(0).await.is_ok() {} });
    }
    tokio::time::sleep(ms(5000)).await;
    let stats = layer.handle().stats();
    assert_eq!((stats.refused.total(), stats.removed.total()), (0, 0));
    assert!(stats.succeeded > 400, "{}", stats.succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_measured_by_those_who_are_refused_where_nobody_waits() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(0, 1).build().expect("valid");
    let mut service = layer.layer(gate.service());
    for id in 0..100 {
        let call = service.call(id);
        for _ in 0..10 {
            service.try_call(1000).expect_err("there is no room");
        }
        advance(Duration::from_millis(10)).await;
        gate.finish(id);
        call.await.expect("answered");
    }
    let rate = layer.handle().stats().drain_rate.expect("measured");
    assert!((90.0..110.0).contains(&rate), "{rate} a second");
}
