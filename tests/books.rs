//! Law 12: the books balance, and what is counted as what.

mod support;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use support::{
    EXECUTIONS, builder,
    gate::{Door, Failed, Gate, Told},
    settle,
};
use tokio_test::task;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    Overflow,
    limit::{Algorithm, Outcome, Sample},
    stats::Stats,
};

#[track_caller]
fn assert_balanced(stats: &Stats) {
    let Stats { succeeded, failed, cancelled, panicked, removed, queued, in_flight, .. } = stats;
    let sum = succeeded + failed + cancelled + panicked + removed.total();
    assert_eq!(stats.admitted, sum + *queued as u64 + *in_flight as u64, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn the_books_balance_at_every_step() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(8, 2)
            .overflow(Overflow::EvictOldest)
            .max_wait(Duration::from_secs(1))
            .execution(execution)
            .build()
            .expect("valid");
        let handle = layer.handle();
        let mut service = layer.layer(gate.service());
        let mut calls: Vec<_> = (0..12).map(|id| Some(tokio::spawn(service.call(id)))).collect();
        settle().await;
        assert_balanced(&handle.stats());
        assert_eq!(handle.stats().removed.evicted, 2);
        gate.end(0, Told::Ok);
        gate.end(1, Told::Err);
        settle().await;
        gate.end(4, Told::Panic);
        if let Some(call) = calls[5].take() {
            call.abort();
        }
        if let Some(call) = calls[11].take() {
            call.abort();
        }
        settle().await;
        assert_balanced(&handle.stats());
        tokio::time::sleep(Duration::from_secs(2)).await;
        gate.finish_all();
        handle.idle().await;
        let stats = handle.stats();
        assert_balanced(&stats);
        assert_eq!((stats.queued, stats.in_flight, stats.admitted), (0, 0, 12));
        assert_eq!((stats.failed, stats.panicked, stats.cancelled), (1, 1, 2));
        assert_eq!(stats.removed.max_wait + stats.succeeded, 6);
        assert_eq!(stats.wait.count(), stats.admitted - stats.removed.total() - 1);
    }
}

#[tokio::test]
async fn refusals_are_counted_by_reason_and_never_admitted() {
    let _t = support::trace_init();
    let layer = builder(0, 1).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    for id in 1..4 {
        service.call(id).await.expect_err("full");
    }
    layer.handle().close();
    service.call(4).await.expect_err("closed");
    let stats = layer.handle().stats();
    assert_eq!((stats.admitted, stats.refused.full, stats.refused.closed), (1, 3, 1));
    assert_eq!(stats.refused.total(), 4);
    assert_balanced(&stats);
}

#[tokio::test(start_paused = true)]
async fn the_books_are_one_line_in_a_log() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(3, 2).max_wait(Duration::from_secs(1)).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..6).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    gate.end(0, Told::Ok);
    calls.remove(2).abort();
    settle().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _waiting = task::spawn(service.call(6));
    settle().await;
    assert_eq!(
        layer.handle().stats().to_string(),
        "queued=1 in_flight=2 limit=2 capacity=3 admitted=6 refused=1 succeeded=1 failed=0 \
         cancelled=1 panicked=0 removed=1 wait_p99=0.0ms oldest_wait=0.0ms main_reason=full"
    );
}

#[tokio::test]
async fn the_outcome_decides_what_counts_as_failed() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 1)
            .execution(execution)
            .classify_response(|result: Result<&u32, &BoxError>| match result {
                Ok(0) => Outcome::Overload,
                Ok(_) => Outcome::Ignore,
                Err(error) if error.is::<Failed>() => Outcome::Success,
                Err(_) => Outcome::Ignore,
            })
            .build()
            .expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let calls: Vec<_> = (0..3).map(|id| tokio::spawn(service.call(id))).collect();
        for (id, told) in [(0, Told::Ok), (1, Told::Ok), (2, Told::Err)] {
            settle().await;
            gate.end(id, told);
        }
        futures::future::join_all(calls).await;
        let stats = layer.handle().stats();
        assert_eq!((stats.failed, stats.overloaded, stats.succeeded), (1, 1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_sees_every_finished_call_and_sets_the_limit() {
    let _t = support::trace_init();
    #[derive(Default)]
    struct Recording(std::sync::Arc<std::sync::Mutex<Vec<Sample>>>);
    impl Algorithm for Recording {
        fn limit(&self) -> f64 {
            1.0 + self.0.lock().expect("not poisoned").len() as f64
        }
        fn on_sample(&mut self, sample: &Sample) {
            self.0.lock().expect("not poisoned").push(sample.clone());
        }
    }
    let samples = std::sync::Arc::default();
    let layer = tower_load_leveling::LoadLevelLayer::builder()
        .adaptive(Recording(std::sync::Arc::clone(&samples)))
        .build()
        .expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let mut calls: Vec<_> = (0..6).map(|id| task::spawn(service.call(id))).collect();
    settle().await;
    assert_eq!(gate.running(), 1);
    tokio::time::advance(Duration::from_millis(30)).await;
    gate.finish(0);
    settle().await;
    assert_eq!((gate.running(), layer.handle().stats().limit), (2, 2));
    gate.end(1, Told::Err);
    drop(calls.remove(2));
    settle().await;
    assert_eq!(gate.running(), 3, "three samples, limit 4, and one of four is left running less");
    let seen = samples.lock().expect("not poisoned").clone();
    let outcomes: Vec<_> = seen.iter().map(|sample| sample.outcome).collect();
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.contains(&Outcome::Success) && outcomes.contains(&Outcome::Ignore));
    assert!(outcomes.contains(&Outcome::Cancelled));
    assert_eq!(seen[0].finished - seen[0].dispatched, Duration::from_millis(30));
    assert!(seen[0].limit_reached && seen[0].in_flight_at_dispatch == 1);
    layer.handle().set_limit(1).expect("valid");
    gate.finish_all();
    settle().await;
    assert_eq!(layer.handle().stats().limit, 1, "set by hand, so the algorithm has no more say");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_has_gone_is_the_oldest_who_waits() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), Door::shut());
    let layer = builder(10, 1).build().expect("valid");
    let mut service = layer.layer(gate.service_behind(&door));
    let waits = task::spawn(service.call(1));
    settle().await;
    assert!(layer.handle().stats().oldest_wait.is_some());
    drop(waits);
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.oldest_wait), (0, None));
}

/// Takes 50 ms in `call` itself, and nothing after it.
#[derive(Clone)]
struct WorksInCall;

impl Service<u32> for WorksInCall {
    type Response = u32;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<u32, Self::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        // The first poll moves the clock.
        let _ = tokio::time::advance(Duration::from_millis(50)).now_or_never();
        std::future::ready(Ok(request))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_time_includes_the_call_of_the_inner() {
    for (execution, queued) in EXECUTIONS.into_iter().flat_map(|e| [(e, false), (e, true)]) {
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let handle = layer.handle();
        let mut service = layer.layer(WorksInCall);
        if queued {
            handle.pause();
        }
        let call = service.call(1);
        handle.resume();
        call.await.expect("answered");
        let longest = handle.stats().service_time.quantile(1.0).expect("one call");
        let off = longest.abs_diff(Duration::from_millis(50));
        assert!(off < Duration::from_millis(3), "{execution:?}, queued: {queued}: {longest:?}");
    }
}
