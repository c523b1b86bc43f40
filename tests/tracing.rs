//! Law 14: the caller's span is entered around everything of the inner's; and the events, by level
//! and fields.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use support::{
    EXECUTIONS, builder,
    captured::Captured,
    gate::{Door, Gate},
    settle,
};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    LoadLevelLayer,
    error::{Reason, ServiceError},
    limit,
};
use tracing::{Instrument, Level, Metadata, Span, info_span};
use tracing_subscriber::layer::SubscriberExt;

/// The steps of an inner, each with the name of the span it was taken in.
type Steps = Arc<Mutex<Vec<(&'static str, Option<&'static str>)>>>;

/// An inner that notes its steps.
struct Noting(Steps);

fn here() -> Option<&'static str> {
    Span::current().metadata().map(Metadata::name)
}

impl Service<u32> for Noting {
    type Response = ();
    type Error = BoxError;
    type Future = futures::future::BoxFuture<'static, Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.lock().expect("not poisoned").push(("poll_ready", here()));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: u32) -> Self::Future {
        let notes = Arc::clone(&self.0);
        notes.lock().expect("not poisoned").push(("call", here()));
        Box::pin(async move {
            for _ in 0..2 {
                notes.lock().expect("not poisoned").push(("poll", here()));
                tokio::task::yield_now().await;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn the_callers_span_is_entered_around_the_inner() {
    let _t = Captured::init();
    for execution in EXECUTIONS {
        for queued in [false, true] {
            let notes = Arc::default();
            let layer = builder(10, 1).execution(execution).build().expect("valid");
            let mut service = layer.layer(Noting(Arc::clone(&notes)));
            if queued {
                layer.handle().pause();
            }
            let call = info_span!("caller").in_scope(|| service.call(1));
            let call = tokio::spawn(call.instrument(info_span!("elsewhere")));
            settle().await;
            layer.handle().resume();
            call.await.expect("no panic").expect("answered");
            let notes = notes.lock().expect("not poisoned").clone();
            let all = ["poll_ready", "call", "poll", "poll"].map(|step| (step, Some("caller")));
            assert_eq!(notes, all, "{execution:?}, queued: {queued}");
        }
    }
}

#[tokio::test]
async fn the_drain_task_does_not_keep_the_span_of_its_first_caller_open() {
    let (_t, captured) = Captured::init();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(Gate::open().service());
    let call = info_span!("first").in_scope(|| service.call(1));
    call.await.expect("answered");
    settle().await;
    assert!(captured.closed("first"), "the span should be closed, while the drain task lives on");
}

#[tokio::test]
async fn a_refusal_is_said_at_debug() {
    let (_t, captured) = Captured::init();
    let gate = Gate::new();
    let layer =
        LoadLevelLayer::builder().name("orders").capacity(1).concurrency(1).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..5).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    gate.finish_all();
    futures::future::join_all(calls).await;
    settle().await;
    let refused = captured.events("request refused");
    assert_eq!(refused.len(), 3);
    for (level, fields) in refused {
        assert_eq!(level, Level::DEBUG);
        let expected = [("limit", "1"), ("name", "orders"), ("queued", "1")];
        assert_eq!(fields["reason"], "full");
        for (field, value) in expected {
            assert_eq!(fields[field], value, "{field}");
        }
    }
    assert_eq!(captured.events_at(Level::INFO), [""; 0], "a burst is nothing to tell");
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_said_at_debug_in_the_span_of_its_caller() {
    let (_t, captured) = Captured::init();
    let max_wait = Duration::from_millis(100);
    let layer = builder(1, 1).max_wait(max_wait).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = service.call(0);
    service.call(1).await.expect_err("late");
    let removed = captured.events("request removed");
    let (level, fields) = removed.first().expect("an event");
    assert_eq!(*level, Level::DEBUG);
    let waited: f64 = fields["waited"].parse().expect("seconds");
    assert!((0.1..=0.102).contains(&waited), "{waited}");
}

#[tokio::test]
async fn what_an_operator_should_act_on_is_a_warning() {
    let (_t, captured) = Captured::init();
    let door = Door::default();
    let layer = LoadLevelLayer::new(1, 1);
    let mut service = layer.layer(Gate::new().service_behind(&door));
    door.fail();
    service.call(0).await.expect_err("the inner is dead");
    let warned = captured.events_at(Level::WARN);
    assert_eq!(warned, ["inner service failed, its requests will be refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_found_says_once_that_it_holds_requests_back_and_once_that_it_does_not() {
    let (_t, captured) = Captured::init();
    let algorithm = limit::Aimd::new().min(1).max(1);
    let layer = LoadLevelLayer::builder().name("orders").adaptive(algorithm).build();
    let layer = layer.expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let pass = |ms: u64| async move {
        for _ in 0..ms / 10 {
            tokio::time::advance(Duration::from_millis(10)).await;
            settle().await;
        }
    };
    let burst: Vec<_> = (0..3).map(|id| tokio::spawn(service.call(id))).collect();
    pass(500).await;
    drop(burst);
    gate.finish(0);
    settle().await;
    gate.finish(1);
    settle().await;
    gate.finish(2);
    pass(500).await;
    layer.handle().pause();
    let paused: Vec<_> = (3..6).map(|id| tokio::spawn(service.call(id))).collect();
    pass(3000).await;
    let said = |captured: &Captured| {
        let mut said = captured.events_at(Level::INFO);
        said.retain(|message| message.starts_with("limit"));
        said
    };
    assert_eq!(
        said(&captured),
        [""; 0],
        "a burst is no overload, and it was not the limit that held"
    );
    layer.handle().resume();
    pass(3000).await;
    let (begun, over) = ("limit holds requests back", "limit holds no requests back any more");
    assert_eq!(said(&captured), [begun], "on the edge");
    let (_, fields) = captured.events(begun).remove(0);
    let expected = [("limit", "1"), ("name", "orders"), ("queued", "2")];
    for (field, value) in expected {
        assert_eq!(fields[field], value, "{field}");
    }
    gate.finish(3);
    settle().await;
    gate.finish(4);
    pass(3000).await;
    assert_eq!(said(&captured), [begun, over], "one runs and nobody waits");
    gate.finish(5);
    pass(100).await;
    assert_eq!(said(&captured), [begun, over]);
    drop(paused);
}

#[tokio::test]
async fn steering_is_said_at_info() {
    let (_t, captured) = Captured::init();
    let layer = LoadLevelLayer::new(1, 1);
    let handle = layer.handle();
    for _ in 0..2 {
        handle.pause();
    }
    for _ in 0..2 {
        handle.resume();
    }
    for _ in 0..2 {
        handle.close();
    }
    assert_eq!(captured.events_at(Level::INFO), ["paused", "resumed", "closed"], "once each");
}

/// Panics when a span is entered, or left, once it is told to.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicBool>, Arc<AtomicBool>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
    fn on_enter(&self, _: &tracing::Id, _: tracing_subscriber::layer::Context<'_, S>) {
        assert!(!self.0.swap(false, SeqCst), "as told");
    }

    fn on_exit(&self, _: &tracing::Id, _: tracing_subscriber::layer::Context<'_, S>) {
        assert!(!self.1.swap(false, SeqCst), "as told");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_costs_a_caller_no_more_than_its_answer() {
    let panics = Panics::default();
    // Without the span of the drain task, which is at `debug`.
    let quiet = tracing_subscriber::filter::LevelFilter::INFO;
    let all = tracing_subscriber::registry().with(quiet).with(panics.clone());
    let _t = support::scoped::subscriber(all);
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(Gate::open().service());
    layer.handle().pause();
    let call = info_span!("caller").in_scope(|| service.call(1));
    settle().await;
    panics.0.store(true, SeqCst);
    layer.handle().resume();
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
    let error = answer.expect("law 1: it does not hang").expect_err("broken off");
    assert!(error.is::<ServiceError>(), "{error}");
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.in_flight, stats.panicked), (0, 0, 1));
    assert!(
        layer.handle().drain(Duration::ZERO).await.finished == 0,
        "nothing is left to wait for"
    );

    // When the inner has been called: then it has a slot.
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(Gate::open().service());
    layer.handle().pause();
    let call = info_span!("caller").in_scope(|| service.call(1));
    settle().await;
    panics.1.store(true, SeqCst);
    layer.handle().resume();
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
    assert_eq!(answer.expect("nor then").expect("its end is nobody's business"), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.queued, stats.in_flight, stats.slots_taken), (0, 0, 0));
    assert_eq!(service.call(2).await.expect("its slot is free"), 2);

    let layer = builder(10, 1).max_wait(Duration::from_millis(10)).build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    layer.handle().pause();
    let call = info_span!("caller").in_scope(|| service.call(1));
    settle().await;
    panics.0.store(true, SeqCst);
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
    // The event of its removal is contained.
    assert_eq!(support::reason(answer.expect("nor when it is late")), Reason::MaxWait);
    assert_eq!(layer.handle().stats().queued, 0);
}
