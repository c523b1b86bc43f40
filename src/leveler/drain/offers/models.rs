//! Services waiting for a place, one of them asleep.
//!
//! - A waiting service gets a place when a place is free, whatever the other services do with their
//!   wake-ups (laws 1 and 9). No service waits for ever.
//! - At rest no place is held (law 3), and only the sleeper is in the list.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
};

use shuttle::{
    future::{block_on, spawn},
    thread,
};
use tokio::runtime;
use tower::Layer;
use tower_service::Service;

use crate::{
    LoadLevel, LoadLevelLayer,
    leveler::{core::Core, drain::run::run},
    options::{Execution, Overflow},
    sync::{
        explore::{finds, holds},
        fault::Fault,
    },
};

/// An inner service with calls that are ready at once.
struct AtOnce;

impl Service<()> for AtOnce {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

type Waiting = LoadLevel<AtOnce>;

/// Starts the drain task on the scheduler, in place of a runtime.
fn start_drain(core: &Arc<Core>) {
    // Never driven: a name for the seat.
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let generation = core.link.seat.begin(runtime.handle()).expect("none is alive");
    drop(spawn(run(Arc::clone(core), generation)));
}

fn call(service: &mut Waiting) {
    let called = block_on(async {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(()).await
    });
    called.expect("it is admitted");
}

/// Polls once, and keeps the service if no place is free. A ready service holds a place by right.
fn fall_asleep(service: &mut Waiting) -> bool {
    block_on(poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_pending())))
}

fn model() {
    let layer = LoadLevelLayer::builder().capacity(0).concurrency(1).overflow(Overflow::Wait);
    let layer = layer.execution(Execution::Caller).build().expect("the settings make sense");
    let mut first = layer.layer(AtOnce);
    start_drain(first.core());
    let handle = layer.handle();
    // The only place is held while the other services come.
    let is_ready = block_on(poll_fn(|cx| Poll::Ready(first.poll_ready(cx).is_ready())));
    assert!(is_ready, "all places are free");
    let mut sleeper = first.clone();
    let sleeper = fall_asleep(&mut sleeper).then_some(sleeper);
    let threads = [(); 2].map(|()| {
        let mut service = first.clone();
        thread::spawn(move || call(&mut service))
    });
    drop(first);
    threads.into_iter().for_each(|thread| thread.join().expect("no law is broken"));
    assert!(sleeper.is_some());
    assert_eq!(handle.room(), 1, "a place is lost");
}

#[test]
fn a_sleeping_service_keeps_no_place_from_the_others() {
    holds(model);
}

#[test]
fn a_place_that_is_offered_once_is_found() {
    finds(Fault::OfferedOnce, model);
}
