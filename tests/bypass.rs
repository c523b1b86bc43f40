//! Health checks and admin calls: past the queue, on a budget of their own (trap T39).

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate, Told},
    reason, rejection, settle,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{
    Builder, ByResult, Class, LoadLevelLayer, Overflow, Priority,
    error::Reason,
    limit::{Algorithm, Sample},
    stats::State,
};

/// Those from 100 on go past the queue.
fn classify(id: &u32) -> Class {
    if *id < 100 { Class::new() } else { Class::bypass() }
}

type Leveler = LoadLevelLayer<fn(&u32) -> Class, ByResult>;

fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as fn(&u32) -> Class).build().expect("valid")
}

#[tokio::test(start_paused = true)]
async fn it_runs_at_once_while_the_queue_is_full_and_while_it_is_paused() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = layer(builder(1, 1).execution(execution));
        let mut service = layer.layer(gate.service());
        let _calls = [0, 1].map(|id| task::spawn(service.call(id)));
        assert_eq!(reason(service.call(2).await), Reason::Full);
        let mut check = task::spawn(service.call(100));
        layer.handle().pause();
        let mut other = task::spawn(service.call(101));
        settle().await;
        assert_eq!(gate.called(), [0, 100, 101], "{execution:?}");
        assert_eq!(layer.handle().stats().bypassing, 2);
        gate.finish(100);
        gate.finish(101);
        assert_pending_or_ok(&mut check).await;
        assert_pending_or_ok(&mut other).await;
        let stats = layer.handle().stats();
        assert_eq!((stats.bypassing, stats.admitted, stats.succeeded), (0, 2, 0), "counted apart");
        assert_eq!((stats.wait.count(), stats.service_time.count()), (1, 0));
    }
}

/// A task under `Execution::Spawn` may have to run first.
async fn assert_pending_or_ok<F>(call: &mut task::Spawn<F>)
where
    F: Future<Output = Result<u32, tower::BoxError>>,
{
    if call.poll().is_pending() {
        settle().await;
        assert_ready_ok!(call.poll());
    }
}

#[tokio::test(start_paused = true)]
async fn its_budget_is_small_and_its_own() {
    let _t = support::trace_init();
    for (set, budget) in [(None, 8), (Some(2), 2), (Some(0), 0)] {
        let gate = Gate::new();
        let builder = builder(10, 1);
        let layer = layer(match set {
            Some(limit) => builder.bypass_limit(limit),
            None => builder,
        });
        let mut service = layer.layer(gate.service());
        let mut checks: Vec<_> =
            (0..budget).map(|nth| task::spawn(service.call(100 + nth))).collect();
        let refused = rejection(service.call(200).await);
        assert_eq!((refused.reason(), refused.is_over_share()), (Reason::Bypass, false));
        let stats = layer.handle().stats();
        assert_eq!(stats.bypassing, budget as usize);
        assert_eq!((stats.refused.bypass, stats.refused.full, stats.refused.total()), (1, 0, 1));
        assert_eq!(stats.priority(Priority::Critical).refused, stats.refused);
        if let Some(check) = checks.pop() {
            drop(check);
            settle().await;
            assert_pending!(task::spawn(service.call(300)).poll());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn its_refusals_are_neither_an_overload_nor_a_stall_of_the_queue() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(10, 1).bypass_limit(1));
    let mut service = layer.layer(gate.service());
    let _call = task::spawn(service.call(1));
    let _check = task::spawn(service.call(100));
    settle().await;
    let before = layer.handle().stats();
    for _ in 0..10 {
        assert_eq!(reason(service.call(200).await), Reason::Bypass);
        advance(Duration::from_secs(1)).await;
    }
    let verdict = layer.handle().stats().since(&before).verdict();
    assert!(!matches!(verdict.state, State::Overloaded | State::Stalled), "{verdict}");
    assert_eq!(verdict.main_reason, Some(Reason::Bypass), "still told");
}

#[derive(Debug)]
struct Counting(Arc<AtomicUsize>);

impl Algorithm for Counting {
    fn limit(&self) -> f64 {
        4.0
    }
    fn on_sample(&mut self, _: &Sample) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn no_limit_algorithm_sees_it() {
    let _t = support::trace_init();
    let samples = Arc::new(AtomicUsize::new(0));
    let gate = Gate::open();
    let builder = LoadLevelLayer::builder().adaptive(Counting(Arc::clone(&samples)));
    let layer = layer(builder);
    let mut service = layer.layer(gate.service());
    service.call(100).await.expect("served");
    assert_eq!(samples.load(SeqCst), 0);
    service.call(1).await.expect("served");
    assert_eq!(samples.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn its_errors_and_panics_reach_its_caller_and_free_the_budget() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(10, 1).bypass_limit(1));
    let mut service = layer.layer(gate.service());
    let mut fails = task::spawn(service.call(100));
    gate.end(100, Told::Err);
    settle().await;
    assert_ready_err!(fails.poll());
    let panics = tokio::spawn(service.call(101));
    settle().await;
    gate.end(101, Told::Panic);
    assert!(panics.await.expect_err("it panics").is_panic());
    assert_eq!(layer.handle().stats().bypassing, 0);
    assert_eq!(layer.handle().stats().panicked, 0, "counted by nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_closed_leveler_refuses_it_too() {
    let _t = support::trace_init();
    let layer = layer(builder(10, 1));
    let mut service = layer.layer(Gate::open().service());
    service.call(100).await.expect("served");
    layer.handle().close();
    assert_eq!(reason(service.call(101).await), Reason::Closed);
}

#[tokio::test(start_paused = true)]
async fn when_its_inner_is_not_ready_it_waits_as_one_of_the_most_urgent() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), Door::shut());
    let layer = layer(builder(10, 1));
    let mut service = layer.layer(gate.service_behind(&door));
    let _normal = task::spawn(service.call(1));
    let mut check = task::spawn(service.call(100));
    settle().await;
    let stats = layer.handle().stats();
    assert_eq!((stats.bypassing, stats.queued), (0, 2));
    assert_eq!(stats.priority(Priority::Critical).queued, 1);
    door.open();
    settle().await;
    assert_ready_ok!(check.poll());
    assert_eq!(gate.called(), [100, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_one_does_not_take_the_wake_up_of_those_who_wait() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), Door::shut());
    let classify = |id: &u32| match id {
        100 => Class::bypass(),
        _ => Class::new().priority(Priority::Critical),
    };
    let layer = builder(0, 1).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(gate.service_behind(&door));
    let _waits = task::spawn(service.call(1));
    settle().await;
    // It finds the inner unready, and no place.
    assert_eq!(reason(service.call(100).await), Reason::Full);
    settle().await;
    door.open_for_the_last();
    settle().await;
    assert_eq!(gate.called(), [1]);
}

/// Trap T9 the other way round: what `poll_ready` has reserved is for the next call, whatever
/// becomes of it.
#[tokio::test(start_paused = true)]
async fn it_gives_back_the_place_that_was_reserved_for_it() {
    let _t = support::trace_init();
    let gate = Gate::open();
    let layer = layer(builder(0, 1).overflow(Overflow::Wait));
    let mut service = layer.layer(gate.service());
    let mut other = service.clone();
    service.ready().await.expect("never fails");
    service.call(100).await.expect("served");
    let mut ready = task::spawn(other.ready());
    settle().await;
    assert!(ready.poll().is_ready(), "nothing waits or runs");
}

#[tokio::test(start_paused = true)]
async fn it_needs_no_place_where_others_wait_for_one() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = layer(builder(0, 1).overflow(Overflow::Wait));
    let mut service = layer.layer(gate.service());
    let _running = task::spawn(service.call(1));
    let mut waiting = service.clone();
    assert!(task::spawn(waiting.ready()).poll().is_pending());
    let _bypassing = task::spawn(service.call(100));
    assert_eq!(gate.called(), [1, 100]);
}
