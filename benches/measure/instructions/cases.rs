//! What is counted.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use futures::FutureExt;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};
use tower_load_leveling::{
    Builder, Class, Execution,
    Execution::{Caller, Spawn},
    LoadLevelLayer, Priority,
};

use crate::{
    deaf::Deaf,
    drive::{CALLERS, CAPACITY, LIMIT, come_back, many, never, one, ready, runtime},
};

/// A name, and what makes so many calls.
pub(crate) type Case = (&'static str, fn(usize));

/// The first ones are what one would use instead.
pub(crate) const CASES: [Case; 22] = [
    ("ConcurrencyLimit", limit),
    ("Buffer + ConcurrencyLimit", buffer),
    ("Buffer + ConcurrencyLimit, inner yields", buffer_yields),
    ("Buffer + ConcurrencyLimit, queued", buffer_queued),
    ("direct, Caller", |calls| direct(layer(Caller), calls)),
    ("direct, Caller, inner yields", |calls| direct_yields(Caller, calls)),
    ("direct, Caller, adaptive", adaptive),
    ("direct, Spawn, polled in place", |calls| direct(layer(Spawn), calls)),
    ("direct, Spawn, inner yields", |calls| direct_yields(Spawn, calls)),
    ("queued, Caller", |calls| queued(Caller, calls)),
    ("queued, Spawn", |calls| queued(Spawn, calls)),
    ("queued, Caller, beside a subscriber", |calls| beside_a_subscriber(Caller, calls)),
    ("queued, Spawn, beside a subscriber", |calls| beside_a_subscriber(Spawn, calls)),
    ("queued, Caller, with a class", |calls| queued_with_a_class(Caller, calls)),
    ("queued, Spawn, with a class", |calls| queued_with_a_class(Spawn, calls)),
    ("direct, Caller, of 300 flows", |calls| flows(0, calls)),
    ("direct, Caller, of 300 flows, 64 watched", |calls| flows(64, calls)),
    ("refusal", refusal),
    ("queued and cancelled", cancelled),
    ("layer(), made and dropped", made_and_dropped),
    ("stats(), nothing waits", |calls| looks(0, calls)),
    ("stats(), 100 000 queued, half of them gone", |calls| looks(100_000, calls)),
];

fn builder(execution: Execution) -> Builder {
    LoadLevelLayer::builder().capacity(CAPACITY).concurrency(LIMIT).execution(execution)
}

fn layer(execution: Execution) -> LoadLevelLayer {
    builder(execution).build().expect("valid")
}

fn limit(calls: usize) {
    let service = ServiceBuilder::new().concurrency_limit(LIMIT).service(service_fn(ready));
    runtime().block_on(one(service, calls));
}

fn buffer(calls: usize) {
    let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
    runtime().block_on(async { one(stack.service(service_fn(ready)), calls).await });
}

fn buffer_yields(calls: usize) {
    let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
    runtime().block_on(async { one(stack.service(service_fn(come_back)), calls).await });
}

fn buffer_queued(calls: usize) {
    let stack = ServiceBuilder::new().buffer(CAPACITY).concurrency_limit(LIMIT);
    runtime().block_on(async { many(stack.service(service_fn(come_back)), calls).await });
}

fn direct(layer: LoadLevelLayer, calls: usize) {
    runtime().block_on(one(layer.layer(service_fn(ready)), calls));
}

fn direct_yields(execution: Execution, calls: usize) {
    runtime().block_on(one(layer(execution).layer(service_fn(come_back)), calls));
}

fn adaptive(calls: usize) {
    let builder = LoadLevelLayer::builder().capacity(CAPACITY).execution(Caller);
    // It knows the time from the beginning.
    let runtime = runtime();
    let _entered = runtime.enter();
    let layer = builder.adaptive_concurrency().build().expect("valid");
    runtime.block_on(one(layer.layer(service_fn(ready)), calls));
}

fn queued(execution: Execution, calls: usize) {
    runtime().block_on(many(layer(execution).layer(service_fn(come_back)), calls));
}

/// With a `tracing` subscriber that listens to nothing of all this.
fn beside_a_subscriber(execution: Execution, calls: usize) {
    // Each count has a process of its own. With `--test` the second case finds it set.
    let _ = tracing::subscriber::set_global_default(Deaf);
    queued(execution, calls);
}

/// A priority, one of 64 flows and a deadline.
fn queued_with_a_class(execution: Execution, calls: usize) {
    let runtime = runtime();
    let _entered = runtime.enter();
    // Not read anew for each: what a clock costs is not ours.
    let deadline = Instant::now() + Duration::from_secs(3600);
    let classify = move |caller: &usize| {
        Class::new().priority(Priority::High).flow(caller % 64).deadline(deadline)
    };
    let layer = builder(execution).classify_request(classify).build().expect("valid");
    runtime.block_on(many(layer.layer(service_fn(come_back)), calls));
}

/// Three hundred flows, some of which ask more often than others, and so many watched.
fn flows(watched: usize, calls: usize) {
    let nth = AtomicUsize::new(0);
    let classify = move |(): &()| {
        let nth = nth.fetch_add(1, Relaxed);
        Class::new().flow(nth * nth % 300)
    };
    let layer = builder(Caller).watch_flows(watched).classify_request(classify);
    runtime().block_on(one(layer.build().expect("valid").layer(service_fn(ready)), calls));
}

/// Some calls have ended before, so that there is a time after which to come back.
fn refusal(calls: usize) {
    let ends = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&ends);
    let inner = service_fn(move |()| {
        let ends = told.load(Relaxed);
        std::future::poll_fn(move |_| match ends {
            true => Poll::Ready(Ok::<_, BoxError>(())),
            false => Poll::Pending,
        })
    });
    let mut service = LoadLevelLayer::new(0, 1).layer(inner);
    runtime().block_on(async {
        for _ in 0..16 {
            service.call(()).await.expect("answered");
        }
        ends.store(false, Relaxed);
        let running = service.call(());
        for _ in 0..calls {
            let answer = service.call(()).now_or_never();
            drop(black_box(answer.expect("at once").expect_err("refused")));
        }
        drop(running);
    });
}

/// As many at once as others have callers, so that the drain task has taken them in when they are
/// dropped.
fn cancelled(calls: usize) {
    let layer = LoadLevelLayer::new(CAPACITY, 1);
    let mut service = layer.layer(service_fn(never::<()>));
    runtime().block_on(async {
        let running = service.call(());
        let mut waiting = Vec::with_capacity(CALLERS);
        for _ in 0..calls / CALLERS {
            waiting.extend((0..CALLERS).map(|_| service.call(())));
            tokio::task::yield_now().await;
            assert_eq!(layer.handle().stats().queued, CALLERS);
            waiting.clear();
        }
        drop(running);
    });
}

fn made_and_dropped(calls: usize) {
    let layer = layer(Caller);
    for _ in 0..calls {
        drop(black_box(layer.layer(service_fn(ready::<()>))));
    }
}

/// In 1000 flows, and the older half gives up. A snapshot takes the same time, whatever waits.
fn looks(queued: usize, calls: usize) {
    let classify = |caller: &usize| Class::new().flow(caller % 1000);
    let layer = LoadLevelLayer::builder().capacity(queued).concurrency(1);
    let layer = layer.classify_request(classify).build().expect("valid");
    let mut service = layer.layer(service_fn(never::<usize>));
    runtime().block_on(async {
        let mut waiting: Vec<_> = (0..=queued).map(|caller| service.call(caller)).collect();
        tokio::task::yield_now().await;
        drop(waiting.drain(1..=queued / 2));
        tokio::task::yield_now().await;
        for _ in 0..calls {
            black_box(layer.handle().stats());
        }
    });
}
