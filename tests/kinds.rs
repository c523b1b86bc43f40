//! Deadlines that are predicted by kind: a slow route shuts out no other.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use support::{EXECUTIONS, builder};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{ByResult, Class, Execution, LoadLevelLayer, Priority};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A request: how long it takes, how long its caller waits, and the kind, if its class says one.
#[derive(Clone, Copy, Debug)]
struct Request {
    takes: Duration,
    left: Duration,
    kind: Option<u32>,
    priority: Priority,
}

impl Request {
    fn new(takes: u64, left: u64, kind: Option<u32>) -> Self {
        Self { takes: ms(takes), left: ms(left), kind, priority: Priority::Normal }
    }
}

fn classify(request: &Request) -> Class {
    let class = Class::new().deadline(Instant::now() + request.left).priority(request.priority);
    match request.kind {
        Some(kind) => class.kind(kind),
        None => class,
    }
}

type Classify = fn(&Request) -> Class;
type Leveler = LoadLevelLayer<Classify, ByResult>;

fn leveler(limit: usize, execution: Execution) -> Leveler {
    let builder = builder(1024, limit).execution(execution);
    builder.request_classifier(classify as Classify).build().expect("valid")
}

fn inner() -> impl Service<Request, Response = (), Error = BoxError, Future: Send + 'static> + Clone
{
    tower::service_fn(|request: Request| async move {
        sleep(request.takes).await;
        Ok(())
    })
}

/// Calls every so often until the end. Returns a count of those served, and the number of calls.
async fn stream(layer: &Leveler, request: Request, every: Duration, count: u64) -> (u64, u64) {
    let mut service = layer.layer(inner());
    let (served, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut calls = Vec::new();
    for nth in 0..count {
        sleep_until(start + every * nth as u32).await;
        let (call, served) = (service.call(request), Arc::clone(&served));
        calls.push(tokio::spawn(async move {
            served.fetch_add(u64::from(call.await.is_ok()), SeqCst);
        }));
    }
    futures::future::join_all(calls).await;
    (served.load(SeqCst), count)
}

const NO_KINDS: [Option<u32>; 2] = [None, None];
const TWO_KINDS: [Option<u32>; 2] = [Some(1), Some(2)];

#[tokio::test(start_paused = true)]
async fn slow_reports_with_the_same_deadline_shut_out_no_fast_call() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for ([slow, fast], limit) in
            [(NO_KINDS, 64), (TWO_KINDS, 64), (NO_KINDS, 8), (TWO_KINDS, 8)]
        {
            let layer = leveler(limit, execution);
            for _ in 0..3 {
                let mut service = layer.layer(inner());
                tokio::spawn(async move {
                    loop {
                        if service.call(Request::new(8000, 5000, slow)).await.is_err() {
                            sleep(ms(10)).await;
                        }
                    }
                });
            }
            sleep(ms(30_000)).await;
            let (served, all) = stream(&layer, Request::new(2, 5000, fast), ms(5), 6000).await;
            assert_eq!(served, all, "{execution:?}, limit {limit}, kinds {slow:?} and {fast:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slow_reports_on_a_quarter_of_the_slots_hardly_delay_fast_calls_even_without_kinds() {
    let _t = support::trace_init();
    let layer = leveler(64, Execution::Spawn);
    for _ in 0..16 {
        let mut service = layer.layer(inner());
        tokio::spawn(async move {
            loop {
                if service.call(Request::new(8000, 5000, None)).await.is_err() {
                    sleep(ms(10)).await;
                }
            }
        });
    }
    sleep(ms(30_000)).await;
    let (served, all) = stream(&layer, Request::new(2, 5000, None), ms(5), 6000).await;
    assert!(served * 100 >= all * 99, "{served} of {all}");
}

#[tokio::test(start_paused = true)]
async fn bursts_of_a_slow_route_cost_the_fast_one_nothing() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for [slow, fast] in [NO_KINDS, TWO_KINDS] {
            for gives_up in [false, true] {
                let layer = leveler(64, execution);
                let mut service = layer.layer(inner());
                tokio::spawn(async move {
                    loop {
                        for _ in 0..60 {
                            let call = service.call(Request::new(3000, 1000, slow));
                            let patience = ms(if gives_up { 1000 } else { 10_000 });
                            tokio::spawn(tokio::time::timeout(patience, call));
                        }
                        sleep(ms(15_000)).await;
                    }
                });
                let (served, all) =
                    stream(&layer, Request::new(2, 1000, fast), ms(5), 10_000).await;
                assert_eq!(served, all, "{execution:?}, kinds {slow:?} and {fast:?}, {gives_up}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_takes_too_long_is_refused_even_while_nothing_runs() {
    let _t = support::trace_init();
    let layer = leveler(64, Execution::Spawn);
    let hopeless = Request::new(3000, 1000, Some(1));
    let (served, _) = stream(&layer, hopeless, ms(4000), 8).await;
    assert_eq!(served, 8, "unknown");
    // Probes: a 2000th of the time of 64 slots is one of 3 s in 94 s.
    let (served, _) = stream(&layer, hopeless, ms(1000), 1000).await;
    assert!((5..=12).contains(&served), "{served} of 1000");
    // Others are not judged by it: neither another kind, nor another priority.
    let urgent = Request { priority: Priority::High, ..hopeless };
    assert_eq!(stream(&layer, urgent, ms(4000), 8).await.0, 8);
    assert_eq!(stream(&layer, Request::new(3000, 1000, Some(2)), ms(4000), 8).await.0, 8);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_has_become_fast_is_served_again_in_bounded_time() {
    let _t = support::trace_init();
    for limit in [16, 64] {
        let layer = leveler(limit, Execution::Spawn);
        stream(&layer, Request::new(3000, 1000, Some(1)), ms(100), 1000).await;
        // A probe of 3 s may run every 6000 s ÷ limit.
        stream(&layer, Request::new(2, 1000, Some(1)), ms(100), 60_000 / limit as u64 + 600).await;
        let (served, all) = stream(&layer, Request::new(2, 1000, Some(1)), ms(100), 100).await;
        assert_eq!(served, all, "limit {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_beyond_256_are_not_predicted() {
    let _t = support::trace_init();
    let layer = leveler(64, Execution::Spawn);
    for kind in 0..300 {
        let (served, _) = stream(&layer, Request::new(300, 100, Some(kind)), ms(400), 20).await;
        let (known, all) = ((8..=11).contains(&served), served == 20);
        assert!(if kind < 256 { known } else { all }, "kind {kind}: {served} of 20");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_with_some_quick_calls_is_not_shut_out() {
    let _t = support::trace_init();
    let layer = leveler(64, Execution::Spawn);
    let mut service = layer.layer(inner());
    for nth in 0..1000 {
        // One in twenty finds its answer in a cache.
        let takes = if nth % 20 == 0 { 2 } else { 3000 };
        service.call(Request::new(takes, 1000, Some(1))).await.expect("it may be quick");
    }
}
