//! Laws 5 and 6: what happens when a caller drops its future.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use support::{EXECUTIONS, builder, gate::Gate, settle};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, Service, service_fn};
use tower_load_leveling::{Abandon, LoadLevelLayer};

#[tokio::test]
async fn dropping_a_queued_call_frees_its_place_at_once() {
    let _t = support::trace_init();
    // Symptom: tower's `Buffer(4)`, 5 queued, all 5 cancelled, inner busy: still no free place.
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let mut running = task::spawn(service.call(0));
        let queued: Vec<_> = (1..5).map(|id| service.call(id)).collect();
        service.try_call(9).expect_err("all places are taken");
        // No `await` between the drop and the next calls: nothing but the drop can have freed them.
        drop(queued);
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.cancelled, stats.oldest_wait), (0, 4, None));
        let calls: Vec<_> = (5..9).map(|id| service.try_call(id)).collect();
        assert!(calls.iter().all(Result::is_ok), "four places should be free again");
        assert_pending!(running.poll());
        settle().await;
        gate.finish_all();
        settle().await;
        assert_ready_ok!(running.poll());
        for call in calls {
            assert!(tokio::spawn(call.expect("admitted")).await.expect("no panic").is_ok());
        }
        assert_eq!(gate.called(), [0, 5, 6, 7, 8], "the inner never sees those that were dropped");
    }
}

#[tokio::test]
async fn dropping_a_queued_call_drops_its_request_at_once() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service =
        layer.layer(service_fn(|_: Arc<()>| std::future::pending::<Result<(), std::io::Error>>()));
    layer.handle().pause();
    let body = Arc::new(());
    let call = service.call(Arc::clone(&body));
    settle().await;
    drop(call);
    assert_eq!(Arc::strong_count(&body), 1, "the request should be gone with its caller");
}

#[tokio::test]
async fn a_loop_of_call_and_drop_keeps_few_requests_alive() {
    let _t = support::trace_init();
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    for execution in EXECUTIONS {
        let layer = builder(1_000_000, 16).execution(execution).build().expect("valid");
        let mut service = layer.layer(service_fn(|request: Counted| async move {
            let _request = request;
            std::future::pending::<Result<(), std::io::Error>>().await
        }));
        let (alive, mut most) = (Arc::new(AtomicUsize::new(0)), 0);
        // Without a yield: the drain task cannot help.
        for _ in 0..100_000 {
            alive.fetch_add(1, SeqCst);
            drop(service.call(Counted(Arc::clone(&alive))));
            most = most.max(alive.load(SeqCst));
        }
        assert!(most <= 4096, "{most} requests were alive");
        settle().await;
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.in_flight, stats.cancelled), (0, 0, 100_000));
        assert_eq!(alive.load(SeqCst), 0);
    }
}

#[tokio::test]
async fn dropping_a_running_call_drops_the_inner_future() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(4, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let running = tokio::spawn(service.call(0));
        let mut next = task::spawn(service.call(1));
        settle().await;
        running.abort();
        settle().await;
        assert_eq!(gate.dropped(), [0]);
        assert_pending!(next.poll());
        assert_eq!(gate.called(), [0, 1], "the slot should go to the next");
        gate.finish(1);
        settle().await;
        assert_ready_ok!(next.poll());
        assert_eq!(layer.handle().stats().cancelled, 1);
    }
}

#[tokio::test]
async fn the_slot_comes_home_when_the_work_has_really_ended() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(4, 1);
    let mut service = layer.layer(gate.service());
    let running = service.call(0);
    settle().await;
    drop(running);
    // At once: the drop has ended the work.
    assert_eq!((gate.running(), layer.handle().stats().in_flight), (0, 0));
    // A call that has just been polled by its task is no different.
    let running = service.call(1);
    settle().await;
    let drops = tokio::spawn(async move { drop(running) });
    drops.await.expect("no panic");
    assert_eq!((gate.running(), layer.handle().stats().in_flight), (0, 0));
}

#[tokio::test]
async fn abandoned_calls_are_finished_when_asked_for() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(2, 1).abandon(Abandon::Finish).build().expect("valid");
    let mut service = layer.layer(gate.service());
    (0..3).for_each(|id| drop(service.call(id)));
    service.try_call(9).expect_err("abandoned work keeps its places");
    for id in 0..3 {
        settle().await;
        gate.finish(id);
    }
    layer.handle().idle().await;
    assert_eq!(gate.finished(), [0, 1, 2]);
    let stats = layer.handle().stats();
    assert_eq!((stats.succeeded, stats.cancelled), (3, 0));
}

#[tokio::test]
async fn a_cancelled_head_does_not_hold_up_those_behind_it() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(4, 1);
    let mut service = layer.layer(gate.service());
    let _first = service.call(0);
    let head = service.call(1);
    let _behind = service.call(2);
    settle().await;
    drop(head);
    gate.finish(0);
    settle().await;
    assert_eq!(gate.called(), [0, 2]);
}

#[tokio::test]
async fn a_caller_that_does_not_poll_holds_up_nobody() {
    let _t = support::trace_init();
    // Symptom: `Buffer(ConcurrencyLimit(1))`, one response future kept unpolled: all others wait
    // for ever.
    let gate = Gate::open();
    let layer = LoadLevelLayer::new(4, 1);
    let mut service = layer.layer(gate.service());
    let _kept = service.call(0);
    let mut other = task::spawn(service.call(1));
    settle().await;
    assert_ready_ok!(other.poll());
}
