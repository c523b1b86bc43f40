//! Law 17 as others see it: what discards dead services (tower's `Balance`, `ReadyCache`,
//! `Reconnect`, `SpawnReady`) finds out about a dead inner by `poll_ready`.

mod support;

use std::{
    future::{Ready, ready as ready_with},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    settle,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{
    BoxError, Layer, Service, ServiceExt, balance::p2c::Balance, discover::ServiceList,
    load::Constant, ready_cache::ReadyCache, reconnect::Reconnect, service_fn,
    spawn_ready::SpawnReady,
};
use tower_load_leveling::{Class, LoadLevel, LoadLevelLayer, Overflow, error::ServiceError};

const OVERFLOWS: [Overflow; 3] = [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest];

/// Answers at once, until it is killed.
#[derive(Clone, Default)]
struct Endpoint {
    is_dead: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Service<u32> for Endpoint {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.is_dead.load(SeqCst) {
            true => Poll::Ready(Err("the connection is gone".into())),
            false => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, id: u32) -> Self::Future {
        self.served.fetch_add(1, SeqCst);
        ready_with(Ok(id))
    }
}

fn ready<S: Service<u32> + Unpin>(service: &mut task::Spawn<S>) -> Poll<Result<(), S::Error>> {
    service.enter(|cx, mut service| service.poll_ready(cx))
}

fn layer(capacity: usize, limit: usize, overflow: Overflow) -> LoadLevelLayer {
    builder(capacity, limit).overflow(overflow).build().expect("valid")
}

#[tokio::test]
async fn a_balancer_discards_a_dead_endpoint_after_one_error() {
    let _t = support::trace_init();
    for overflow in OVERFLOWS {
        for (execution, is_shared) in [(0, false), (0, true), (1, false), (1, true)] {
            let build = || {
                let builder = builder(8, 8).overflow(overflow).execution(EXECUTIONS[execution]);
                builder.build().expect("valid")
            };
            let (one, endpoints) = (build(), [(); 3].map(|()| Endpoint::default()));
            let leveled = endpoints.clone().map(|endpoint| {
                let layer = if is_shared { one.clone() } else { build() };
                Constant::new(layer.layer(endpoint), 1)
            });
            let mut balance = Balance::new(ServiceList::new::<u32>(leveled));
            let mut errors = 0;
            for id in 0..1000 {
                if id == 100 {
                    endpoints[1].is_dead.store(true, SeqCst);
                }
                let service = balance.ready().await.expect("two endpoints are left");
                errors += usize::from(service.call(id).await.is_err());
            }
            assert!(errors <= 1, "{overflow:?}: {errors} errors");
            assert_eq!(balance.len(), 2, "{overflow:?}");
            let served = endpoints.iter().map(|endpoint| endpoint.served.load(SeqCst));
            assert_eq!(served.sum::<usize>() + errors, 1000, "{overflow:?}");
        }
    }
}

/// A connection that lives for 30 ms. Calls take 5 ms.
struct Connection {
    dies: Instant,
}

impl Service<u32> for Connection {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match Instant::now() >= self.dies {
            true => Poll::Ready(Err("the connection is gone".into())),
            false => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, id: u32) -> Self::Future {
        Box::pin(async move {
            sleep(Duration::from_millis(5)).await;
            Ok(id)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_made_anew_after_one_error() {
    let _t = support::trace_init();
    for overflow in OVERFLOWS {
        let layer = layer(8, 8, overflow);
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let make = service_fn(move |()| {
            count.fetch_add(1, SeqCst);
            let dies = Instant::now() + Duration::from_millis(30);
            ready_with(Ok::<_, BoxError>(layer.layer(Connection { dies })))
        });
        let mut service = Reconnect::new(make, ());
        let mut ok = 0;
        for id in 0..50 {
            let service = service.ready().await.expect("a connection can be made");
            ok += usize::from(service.call(id).await.is_ok());
        }
        let made = made.load(SeqCst);
        assert!(made >= 7, "{overflow:?}: {made} connections were made");
        assert!(ok + made > 50, "{overflow:?}: {ok} of 50, {made} connections");
    }
}

#[tokio::test]
async fn a_cache_of_ready_services_evicts_a_dead_one() {
    let _t = support::trace_init();
    for overflow in OVERFLOWS {
        let layer = layer(4, 4, overflow);
        let endpoints = [(); 2].map(|()| Endpoint::default());
        let mut cache: ReadyCache<usize, LoadLevel<Endpoint>, u32> = ReadyCache::default();
        for (key, endpoint) in endpoints.iter().enumerate() {
            cache.push(key, layer.layer(endpoint.clone()));
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_ready_ok!(cache.poll_pending(&mut cx));
        endpoints[0].is_dead.store(true, SeqCst);
        cache.call_ready(&0, 1).await.expect_err("the endpoint is dead");
        let failed = assert_ready_err!(cache.poll_pending(&mut cx));
        assert_eq!(failed.0, 0, "{overflow:?}");
        assert_eq!((cache.ready_len(), cache.pending_len()), (1, 0), "{overflow:?}");
    }
}

#[tokio::test]
async fn a_service_made_ready_in_the_background_fails_when_its_inner_dies() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::new(), Door::default());
    let layer = layer(0, 1, Overflow::Wait);
    let (mut other, mut service) =
        (layer.layer(gate.service()), layer.layer(gate.service_behind(&door)));
    let first = other.call(0);
    let mut waits = task::spawn(SpawnReady::new(service.clone()));
    assert_pending!(ready(&mut waits));
    settle().await;
    drop(first);
    settle().await;
    assert!(waits.is_woken());
    assert_ready_ok!(ready(&mut waits));
    drop(waits);
    door.fail();
    service.call(1).await.expect_err("the inner is dead");
    let mut late = task::spawn(SpawnReady::new(service));
    assert_ready_err!(ready(&mut late));
}

#[tokio::test]
async fn a_death_wakes_those_who_wait_for_a_place_and_fails_only_those_of_that_inner() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let (gate, door) = (Gate::new(), Door::shut());
        let layer = builder(1, 1).overflow(Overflow::Wait).execution(execution).build();
        let layer = layer.expect("valid");
        let mut service = layer.layer(gate.service_behind(&door));
        let mut other = layer.layer(gate.service());
        let mut running = task::spawn(other.call(0));
        assert_pending!(running.poll());
        let mut queued = task::spawn(service.call(1));
        assert_pending!(queued.poll());
        let mut waits = task::spawn(service.clone());
        let mut others = task::spawn(other.clone());
        assert_pending!(ready(&mut waits));
        assert_pending!(ready(&mut others));
        settle().await;
        door.fail();
        gate.finish(0);
        settle().await;
        assert_ready_ok!(running.poll());
        settle().await;
        assert!(waits.is_woken(), "{execution:?}");
        let error = assert_ready_err!(ready(&mut waits));
        assert!(error.is::<ServiceError>(), "{error}");
        assert_ready_ok!(ready(&mut others));
        assert_ready!(queued.poll()).expect_err("the inner is dead");
        let error = assert_ready_err!(ready(&mut task::spawn(service.clone())));
        assert!(error.is::<ServiceError>(), "{error}");
        drop((service, waits));
        others.enter(|_, mut other| drop(other.call(2)));
    }
}

#[tokio::test]
async fn a_dead_service_gives_back_its_reserved_place() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), Door::default());
    let layer = layer(0, 2, Overflow::Wait);
    let mut service = layer.layer(gate.service_behind(&door));
    let mut reserved = task::spawn(service.clone());
    assert_ready_ok!(ready(&mut reserved));
    assert_eq!(layer.handle().room(), 1);
    door.fail();
    service.call(0).await.expect_err("the inner is dead");
    assert_ready_err!(ready(&mut reserved));
    assert_eq!(layer.handle().room(), 2);
}

#[tokio::test]
async fn requests_that_wait_for_a_dead_inner_are_answered_while_all_slots_are_taken() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let (gate, door) = (Gate::new(), Door::shut());
        let layer = builder(10, 1).bypass_limit(1).execution(execution);
        let bypass = |id: &u32| if *id == 9 { Class::bypass() } else { Class::new() };
        let layer = layer.request_classifier(bypass).build().expect("valid");
        let mut service = layer.layer(gate.service_behind(&door));
        let mut other = layer.layer(gate.service());
        let mut running = task::spawn(other.call(0));
        assert_pending!(running.poll());
        let mut waiting: Vec<_> = (1..5).map(|id| task::spawn(service.call(id))).collect();
        let mut others: Vec<_> = (5..7).map(|id| task::spawn(other.call(id))).collect();
        waiting.iter_mut().for_each(|call| assert_pending!(call.poll()));
        settle().await;
        // The only slot is taken, so a request past the queue finds the inner dead.
        door.fail();
        service.call(9).await.expect_err("the inner is dead");
        settle().await;
        for call in &mut waiting {
            let error = assert_ready!(call.poll()).expect_err("the inner is dead");
            assert!(error.is::<ServiceError>(), "{execution:?}: {error}");
        }
        others.iter_mut().for_each(|call| assert_pending!(call.poll()));
        let stats = layer.handle().stats();
        assert_eq!((stats.queued, stats.in_flight, stats.failed), (2, 1, 4), "{execution:?}");
        gate.finish_all();
        drop((running, others));
        layer.handle().idle().await;
    }
}
