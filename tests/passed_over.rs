//! Requests that wait for something other than a slot hold up nobody else: requests of an unready
//! inner and of a flow at its limit. Nor do places reserved by idle services.

mod support;

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use support::{EXECUTIONS, builder, settle};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Builder, ByResult, Class, LoadLevelLayer, Order, Overflow,
    limit::{Algorithm, Load, Sample},
};

const ORDERS: [Order; 3] = [Order::Fifo, Order::Lifo, Order::AdaptiveLifo];
const FOR_EVER: u64 = 1_000_000_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Copy, Debug, Default)]
struct Request {
    /// How long the call takes, in milliseconds.
    takes: u64,
    /// How long the caller waits, in milliseconds.
    left: Option<u64>,
    flow: Option<u32>,
}

impl Request {
    fn taking(takes: u64) -> Self {
        Self { takes, ..Self::default() }
    }

    fn within(self, left: u64) -> Self {
        Self { left: Some(left), ..self }
    }

    fn of(self, flow: u32) -> Self {
        Self { flow: Some(flow), ..self }
    }
}

fn classify(request: &Request) -> Class {
    let mut class = Class::new();
    if let Some(flow) = request.flow {
        class = class.flow(flow);
    }
    if let Some(left) = request.left {
        class = class.deadline(Instant::now() + ms(left));
    }
    class
}

type Classify = fn(&Request) -> Class;
type Leveler = LoadLevelLayer<Classify, ByResult>;

fn layer(builder: Builder) -> Leveler {
    builder.request_classifier(classify as Classify).build().expect("valid")
}

type Inner = tower::util::BoxCloneSyncService<Request, (), BoxError>;

fn inner() -> Inner {
    Inner::new(service_fn(|request: Request| async move {
        sleep(ms(request.takes)).await;
        Ok(())
    }))
}

/// An inner that is never ready.
#[derive(Clone)]
struct Unready;

impl Service<Request> for Unready {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request) -> Self::Future {
        unreachable!("never ready")
    }
}

/// What waits beside the calls of a test, for ever.
#[derive(Clone, Copy, Debug)]
enum Beside {
    Nothing,
    UnreadyInner(u32),
    /// A flow at its limit, and as many flows in shared queues.
    FullFlows(u32),
    /// Services that have reserved places.
    Reserved(u32),
}

/// Keeps the waiting calls and services alive.
#[derive(Default)]
struct Kept(Vec<JoinHandle<Result<(), BoxError>>>, Vec<Box<dyn Send>>);

impl Beside {
    const EACH: [Self; 4] =
        [Self::Nothing, Self::UnreadyInner(50), Self::FullFlows(50), Self::Reserved(2)];

    fn builder(self, capacity: usize, limit: usize) -> Builder {
        let builder = builder(capacity, limit);
        match self {
            Self::FullFlows(_) => builder.flow_limit(1).exact_flows(2),
            Self::Reserved(_) => builder.overflow(Overflow::Wait),
            Self::Nothing | Self::UnreadyInner(_) => builder,
        }
    }

    async fn wait(self, layer: &Leveler) -> Kept {
        let mut kept = Kept::default();
        match self {
            Self::Nothing => {}
            Self::UnreadyInner(calls) => {
                let mut service = layer.layer(Unready);
                let calls = (0..calls).map(|_| tokio::spawn(service.call(Request::taking(0))));
                kept.0.extend(calls);
            }
            Self::FullFlows(calls) => {
                let mut service = layer.layer(inner());
                for flow in 1000..1004 {
                    let call = |_| tokio::spawn(service.call(Request::taking(FOR_EVER).of(flow)));
                    kept.0.extend((0..calls).map(call));
                }
            }
            Self::Reserved(services) => {
                for _ in 0..services {
                    let mut service = layer.layer(inner());
                    service.ready().await.expect("a place is free");
                    kept.1.push(Box::new(service));
                }
            }
        }
        settle().await;
        kept
    }
}

/// Returns how many of the calls were served.
async fn served(calls: Vec<JoinHandle<Result<(), BoxError>>>) -> usize {
    let ended = futures::future::join_all(calls).await;
    ended.into_iter().filter(|call| call.as_ref().is_ok_and(Result::is_ok)).count()
}

async fn call(
    service: &mut (impl Service<Request, Error = BoxError, Future: Send + 'static> + Send),
) {
    let ready = service.ready().await.expect("lives");
    drop(ready.call(Request::taking(10)).await);
}

#[tokio::test(start_paused = true)]
async fn a_burst_after_a_calm_time_is_in_time_whatever_waits_beside_it() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for beside in Beside::EACH {
            let layer = layer(beside.builder(1000, 12).execution(execution));
            let _kept = beside.wait(&layer).await;
            let mut service = layer.layer(inner());
            // Two calls a second are all that is asked for, and not all that the inner can do.
            for _ in 0..40 {
                call(&mut service).await;
                sleep(ms(500)).await;
            }
            let mut calls = Vec::new();
            for _ in 0..40 {
                let ready = service.ready().await.expect("lives");
                calls.push(tokio::spawn(ready.call(Request::taking(10).within(1000))));
            }
            assert_eq!(served(calls).await, 40, "{execution:?}, {beside:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_calm_times_say_nothing_about_the_inner() {
    let _t = support::trace_init();
    let layer = layer(builder(1000, 8));
    let mut service = layer.layer(inner());
    for _ in 0..50 {
        let _call = tokio::spawn(service.call(Request::taking(10)));
        for _ in 0..100 {
            let late = service.call(Request::taking(10).within(0)).await;
            late.expect_err("the deadline has passed");
        }
        sleep(ms(100)).await;
    }
    let call = |_| tokio::spawn(service.call(Request::taking(10).within(1000)));
    assert_eq!(served((0..40).map(call).collect()).await, 40);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_no_slot_is_not_ahead_of_a_newcomer() {
    let _t = support::trace_init();
    for beside in Beside::EACH {
        let layer = layer(beside.builder(1000, 5));
        let mut service = layer.layer(inner());
        for _ in 0..8 {
            let ready = service.ready().await.expect("lives");
            ready.call(Request::taking(200)).await.expect("served");
        }
        let _kept = beside.wait(&layer).await;
        let mut calls = Vec::new();
        for _ in 0..50 {
            let ready = service.ready().await.expect("lives");
            calls.push(tokio::spawn(ready.call(Request::taking(200).within(500))));
            sleep(ms(210)).await;
        }
        assert_eq!(served(calls).await, 50, "{beside:?}");
    }
}

/// Returns after how long a refused call is told to come back. All places are held by requests that
/// wait for no slot, and slots are free.
async fn retry_after(beside: Beside, flow: Option<u32>) -> Duration {
    let layer = layer(beside.builder(992, 8));
    let mut service = layer.layer(inner());
    for _ in 0..8 {
        let ready = service.ready().await.expect("lives");
        ready.call(Request::taking(100)).await.expect("served");
    }
    let _kept = beside.wait(&layer).await;
    assert_eq!(layer.handle().stats().queued + layer.handle().stats().in_flight, 1000);
    // Longer than a rate is remembered.
    sleep(ms(10_000)).await;
    let request = Request { flow, ..Request::taking(100) };
    support::rejection(service.call(request).await).retry_after().expect("calls have ended")
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_need_not_wait_for_what_waits_for_no_slot() {
    let _t = support::trace_init();
    let after = retry_after(Beside::UnreadyInner(1000), None).await;
    assert!((ms(9)..ms(130)).contains(&after), "about one call, with eight slots: {after:?}");
    // All of the newcomer's own flow go before it, one after the other: 250 of the 1000.
    let after = retry_after(Beside::FullFlows(250), Some(1000)).await;
    assert!((ms(19_000)..ms(31_000)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_route_shuts_out_no_fast_one_whatever_waits_beside_them() {
    let _t = support::trace_init();
    for order in ORDERS {
        for beside in Beside::EACH {
            let layer = layer(beside.builder(1000, 64).order(order));
            let _kept = beside.wait(&layer).await;
            for _ in 0..3 {
                let mut service = layer.layer(inner());
                tokio::spawn(async move {
                    loop {
                        let ready = service.ready().await.expect("lives");
                        if ready.call(Request::taking(60).within(20)).await.is_err() {
                            sleep(ms(10)).await;
                        }
                    }
                });
            }
            sleep(ms(5000)).await;
            let mut service = layer.layer(inner());
            let mut calls = Vec::new();
            for _ in 0..500 {
                let ready = service.ready().await.expect("lives");
                calls.push(tokio::spawn(ready.call(Request::taking(2).within(20))));
                sleep(ms(5)).await;
            }
            assert_eq!(served(calls).await, 500, "{order:?}, {beside:?}");
        }
    }
}

/// An algorithm that remembers how many requests it was told to wait for the limit.
struct Told(Arc<Mutex<Vec<usize>>>);

impl Algorithm for Told {
    fn limit(&self) -> f64 {
        8.0
    }

    fn on_sample(&mut self, _: &Sample) {}

    fn on_tick(&mut self, _: Instant, load: &Load) {
        self.0.lock().expect("no panic").push(load.queued);
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_is_not_told_of_requests_that_wait_for_something_else() {
    let _t = support::trace_init();
    for beside in Beside::EACH {
        let told = Arc::new(Mutex::new(Vec::new()));
        let builder = beside.builder(1000, 8).adaptive(Told(Arc::clone(&told)));
        let layer = layer(builder);
        let _kept = beside.wait(&layer).await;
        let mut service = layer.layer(inner());
        for _ in 0..10 {
            call(&mut service).await;
        }
        let told = std::mem::take(&mut *told.lock().expect("no panic"));
        assert!(told.len() > 5 && told.iter().all(|queued| *queued == 0), "{beside:?}: {told:?}");
    }
}
