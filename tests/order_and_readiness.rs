//! Laws 7 and 8: calls are made in queue order, and only on an inner that is ready.

mod support;

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    settle,
};
use tokio_test::{assert_ready_ok, task};
use tower::{Layer, Service, limit::ConcurrencyLimit};
use tower_load_leveling::LoadLevelLayer;

#[tokio::test]
async fn the_inner_sees_calls_in_queue_order() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let gate = Gate::open();
        let layer = builder(5000, 2).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service());
        let calls: Vec<_> = (0..5000).map(|id| tokio::spawn(service.call(id))).collect();
        for call in calls {
            call.await.expect("no panic").expect("answered");
        }
        assert_eq!(gate.called(), (0..5000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_newcomer_does_not_overtake_those_who_wait() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(gate.service());
    let _calls = [service.call(0), service.call(1)];
    settle().await;
    gate.finish(0);
    // The slot is free as soon as the task of 0 has run, and 1 still waits when 2 comes.
    while layer.handle().stats().in_flight > 0 {
        tokio::task::yield_now().await;
        if gate.finished().contains(&0) {
            break;
        }
    }
    let _late = service.call(2);
    settle().await;
    assert_eq!(gate.called(), [0, 1]);
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_called() {
    let _t = support::trace_init();
    // The gate's service fails the test when it is called without having been polled ready.
    let (gate, door) = (Gate::open(), Door::default());
    let layer = LoadLevelLayer::new(10, 1);
    let service = layer.layer(gate.service_behind(&door));
    let clones: Vec<_> = (0..5).map(|_| service.clone()).collect();
    for (id, mut clone) in clones.into_iter().enumerate() {
        clone.call(id as u32).await.expect("answered");
    }
    assert!(door.polls() >= 5);
}

#[tokio::test]
async fn an_unready_inner_holds_up_its_own_requests_only() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let (gate, door) = (Gate::open(), Door::shut());
        let layer = builder(100, 1).execution(execution).build().expect("valid");
        let mut unready = layer.layer(gate.service_behind(&door));
        let mut ready = layer.layer(gate.service());
        let calls: Vec<_> = (0..20)
            .map(|id| tokio::spawn(if id % 2 == 0 { unready.call(id) } else { ready.call(id) }))
            .collect();
        settle().await;
        assert_eq!(gate.called(), (0..20).filter(|id| id % 2 == 1).collect::<Vec<_>>());
        assert_eq!(layer.handle().stats().queued, 10);
        door.open();
        settle().await;
        let of_the_unready: Vec<_> = gate.called()[10..].to_vec();
        assert_eq!(of_the_unready, (0..20).filter(|id| id % 2 == 0).collect::<Vec<_>>());
        for call in calls {
            call.await.expect("no panic").expect("answered");
        }
    }
}

#[tokio::test]
async fn a_request_for_an_unready_inner_can_be_cancelled() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), Door::shut());
    let layer = LoadLevelLayer::new(100, 1);
    let mut service = layer.layer(gate.service_behind(&door));
    let (first, mut second) = (service.call(0), task::spawn(service.call(1)));
    settle().await;
    drop(first);
    assert_eq!(layer.handle().stats().queued, 1, "its place is free at once");
    door.open();
    settle().await;
    assert_ready_ok!(second.poll());
    assert_eq!(gate.called(), [1]);
}

#[tokio::test]
async fn a_request_after_a_cancelled_one_for_an_unready_inner_is_served() {
    let _t = support::trace_init();
    // Symptom: the second call polls the inner directly, which forgets whom to wake for the first;
    // and in the queue it is put behind the shell of the first, whose turn never comes.
    for execution in EXECUTIONS {
        let (gate, door) = (Gate::open(), Door::shut());
        let layer = builder(100, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(gate.service_behind(&door));
        let first = service.call(0);
        settle().await;
        drop(first);
        let second = tokio::spawn(service.call(1));
        settle().await;
        door.open_for_the_last();
        settle().await;
        assert_eq!(gate.called(), [1]);
        assert!(second.await.expect("no panic").is_ok());
    }
}

#[tokio::test]
async fn an_inner_with_a_limit_of_its_own_is_waited_for() {
    let _t = support::trace_init();
    // Its `poll_ready` reserves: a permit taken and not used would hang the rest.
    for execution in EXECUTIONS {
        let gate = Gate::new();
        let layer = builder(100, 8).execution(execution).build().expect("valid");
        let mut service = layer.layer(ConcurrencyLimit::new(gate.service(), 1));
        let calls: Vec<_> = (0..50).map(|id| tokio::spawn(service.call(id))).collect();
        for id in 0..50 {
            settle().await;
            assert_eq!(gate.running(), 1);
            gate.finish(id);
        }
        for call in calls {
            call.await.expect("no panic").expect("answered");
        }
    }
}

#[tokio::test]
async fn many_requests_for_an_unready_inner_cost_no_more_than_few() {
    let _t = support::trace_init();
    // Symptom: the whole queue is moved aside and back at each change of readiness, O(n²). With 20
    // 000 waiting that is 200 million moves, and this test does not end in time.
    let (gate, door) = (Gate::open(), Door::shut());
    let layer = LoadLevelLayer::new(20_000, 1);
    let mut service = layer.layer(gate.service_behind(&door));
    let calls: Vec<_> = (0..20_000).map(|id| service.call(id)).collect();
    settle().await;
    for _ in 0..1000 {
        door.open();
        door.close();
        tokio::task::yield_now().await;
    }
    door.open();
    for call in calls {
        call.await.expect("answered");
    }
    assert_eq!(gate.called(), (0..20_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_inner_may_call_its_own_leveler() {
    let _t = support::trace_init();
    // The inner is locked while it is called; a call from inside must not wait for that lock.
    use std::sync::{Arc, OnceLock};
    use tower::util::BoxCloneSyncService;
    type Service_ = BoxCloneSyncService<u32, u32, tower::BoxError>;
    let again: Arc<OnceLock<Service_>> = Arc::default();
    let layer = LoadLevelLayer::new(10, 2);
    let inner = tower::service_fn({
        let again = Arc::clone(&again);
        move |id: u32| {
            let nested = (id == 0).then(|| again.get().expect("set below").clone().call(1));
            async move {
                match nested {
                    Some(nested) => nested.await,
                    None => Ok::<_, tower::BoxError>(id),
                }
            }
        }
    });
    let mut service = layer.layer(inner);
    again.set(BoxCloneSyncService::new(service.clone())).expect("set once");
    assert_eq!(service.call(0).await.expect("answered"), 1);
}
