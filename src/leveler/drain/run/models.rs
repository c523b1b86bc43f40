//! The death of the drain task, and the birth of the next, while calls are made.
//!
//! - Every call is answered, by its inner or by a rejection (law 1). No call waits for ever.
//! - At rest nothing is held.

use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    sync::Arc,
    task::{Context, Poll},
};

use shuttle::{
    future::{JoinHandle, block_on, spawn},
    thread,
};
use tokio::runtime::{self, Handle};
use tower::Layer;
use tower_service::Service;

use super::run;
use crate::{
    LoadLevelLayer,
    leveler::core::Core,
    options::Execution,
    sync::{
        explore::{finds, holds},
        fault::Fault,
    },
};

/// An inner service, ready at the second poll, so that every call is queued.
#[derive(Default)]
pub(in crate::leveler::drain) struct Slow {
    polls: usize,
}

impl Service<()> for Slow {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.polls += 1;
        if self.polls % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

/// Starts the drain task on the scheduler, in place of a runtime.
fn start(core: &Arc<Core>, runtime: &Handle) -> Option<JoinHandle<Option<Arc<Core>>>> {
    core.link.seat.begin(runtime).map(|generation| spawn(run(Arc::clone(core), generation)))
}

fn model() {
    let layer = LoadLevelLayer::builder().capacity(2).concurrency(1);
    let layer = layer.execution(Execution::Caller).build().expect("the settings make sense");
    let service = layer.layer(Slow::default());
    let core = Arc::clone(service.core());
    // Never driven: a name for the seat.
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let first = start(&core, runtime.handle()).expect("none is alive");
    let callers = [(); 2].map(|()| {
        let mut service = service.clone();
        thread::spawn(move || {
            let mut call = service.call(());
            // Either answer will do, but one has to come.
            let _ = block_on(poll_fn(|cx| std::pin::Pin::new(&mut call).poll(cx)));
        })
    });
    // The runtime of the task ends, and another call has a runtime.
    first.abort();
    let next = start(&core, runtime.handle());
    callers.into_iter().for_each(|thread| thread.join().expect("no law is broken"));
    assert_eq!(layer.handle().room(), 3, "a place is lost");
    drop(next);
}

#[test]
fn a_call_is_answered_whatever_becomes_of_the_drain_task() {
    holds(model);
}

#[test]
fn a_death_that_is_told_late_is_found() {
    finds(Fault::DeathToldLate, model);
}
