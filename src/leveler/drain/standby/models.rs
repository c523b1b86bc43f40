//! The move of the drain task to another runtime, while calls are made.
//!
//! - Every call is answered (law 1), although the runtime of the drain task ceases to be driven at
//!   any time. The runtime of the callers is driven.
//! - The first generation, driven again, takes nothing along.
//! - At rest nothing is held.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use shuttle::{future::block_on, thread};
use tokio::runtime::{self, Runtime};
use tower::Layer;
use tower_service::Service;

use crate::{
    LoadLevel, LoadLevelLayer,
    leveler::drain::{run::models::Slow, spawn::ensure_drained},
    options::Execution,
    sync::{
        explore::{finds, holds},
        fault::Fault,
        tasks,
    },
};

/// A runtime that only gives its name, to the calling thread. Never driven.
fn runtime() -> Runtime {
    runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn call(service: &LoadLevel<Slow>) {
    let mut call = service.clone().call(());
    let answer = block_on(poll_fn(|cx| Pin::new(&mut call).poll(cx)));
    answer.expect("it is admitted, and its runtime is driven");
}

fn model() {
    tasks::begin();
    let layer = LoadLevelLayer::builder().capacity(2).concurrency(1);
    let layer = layer.execution(Execution::Caller).build().expect("the settings make sense");
    let service = layer.layer(Slow::default());
    let core = Arc::clone(service.core());
    let (first, callers) = (runtime(), runtime());
    let entered = first.enter();
    ensure_drained(&core).expect("a runtime");
    drop(entered);
    // The scheduler plays all threads on one, so this enters for all.
    let entered = callers.enter();
    let threads = [(); 2].map(|()| {
        let service = service.clone();
        thread::spawn(move || call(&service))
    });
    let handle = first.handle().clone();
    let stops = thread::spawn(move || tasks::stop(&handle));
    threads.into_iter().for_each(|thread| thread.join().expect("no law is broken"));
    stops.join().expect("it only stops");
    tasks::drive_all();
    call(&service);
    assert_eq!(layer.handle().room(), 3, "a place is lost");
    drop((layer, service, core));
    tasks::join_all();
    drop(entered);
}

#[test]
fn every_call_is_answered_whenever_the_drain_task_moves() {
    holds(model);
}

#[test]
fn a_standby_that_does_not_look_again_is_found() {
    finds(Fault::StandbyLooksOnce, model);
}
