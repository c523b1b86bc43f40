//! Ending calls that hand on, beside the drain task, newcomers and a change of the limit.
//!
//! - Every call is answered (law 1): no free slot is forgotten.
//! - In flight ≤ limit (law 2), and calls are made one at a time (law 7).
//! - At rest nothing is held.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use shuttle::{
    future::{block_on, spawn},
    thread,
};
use tokio::runtime;
use tower::Layer;
use tower_service::Service;

use super::super::run::run;
use crate::{
    Class, LoadLevelLayer, Priority,
    options::Execution,
    sync::{
        explore::{finds, holds},
        fault::Fault,
    },
};

const LIMIT: usize = 2;

/// An inner service with calls that are ready at the second poll.
#[derive(Clone, Default)]
struct Counting {
    running: Arc<AtomicUsize>,
}

impl Service<usize> for Counting {
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: usize) -> Self::Future {
        let running = Arc::clone(&self.running);
        assert!(running.fetch_add(1, SeqCst) < LIMIT, "over the limit");
        Box::pin(async move {
            shuttle::future::yield_now().await;
            running.fetch_sub(1, SeqCst);
            Ok(())
        })
    }
}

/// What callers do besides.
#[derive(Clone, Copy, Default)]
struct Besides {
    /// The first one gives up.
    gives_up: bool,
    /// Each has another flow, and every other one a higher priority.
    differ: bool,
    /// All requests that wait are removed.
    removes: bool,
}

fn class_of(caller: usize) -> Class {
    let priority = if caller % 2 == 0 { Priority::Normal } else { Priority::High };
    Class::new().flow(caller).priority(priority)
}

fn model(callers: usize, limit: usize, changes: Option<usize>, besides: Besides) {
    let Besides { gives_up: given_up, differ, removes } = besides;
    let classify = move |caller: &usize| if differ { class_of(*caller) } else { Class::new() };
    let layer = LoadLevelLayer::builder().capacity(3).concurrency(limit);
    let layer = layer.execution(Execution::Spawn).classify_request(classify);
    let layer = layer.build().expect("the settings make sense");
    let service = layer.layer(Counting::default());
    let core = Arc::clone(service.core());
    // Never driven: a name for the seat.
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let generation = core.link.seat.begin(runtime.handle()).expect("none is alive");
    let drain = spawn(run(Arc::clone(&core), generation));
    let callers: Vec<_> = (0..callers)
        .map(|nth| {
            let mut service = service.clone();
            thread::spawn(move || {
                let mut call = service.call(nth);
                let gives_up = given_up && nth == 0;
                let answered = block_on(poll_fn(|cx| match Pin::new(&mut call).poll(cx) {
                    Poll::Pending if gives_up => Poll::Ready(None),
                    polled => polled.map(Some),
                }));
                let is_served = answered.is_none_or(|answer| answer.is_ok());
                assert!(removes || is_served, "nothing is rejected");
            })
        })
        .collect();
    if let Some(limit) = changes {
        layer.handle().set_limit(limit).expect("not 0");
    }
    if removes {
        layer.handle().abort_queued();
    }
    callers.into_iter().for_each(|thread| thread.join().expect("no law is broken"));
    drop((service, layer));
    // All admitted requests end, and then the drain task.
    assert!(block_on(drain).is_ok());
    // A call given up in the hand of its task ends with the task.
    assert!(given_up || core.counts().held() == 0, "a place is lost");
}

#[test]
fn a_call_that_ends_hands_on_and_nothing_is_left_to_nobody() {
    holds(|| model(3, 1, None, Besides::default()));
}

#[test]
fn two_that_hand_on_at_once_leave_no_slot_free_while_a_limit_is_raised() {
    holds(|| model(3, 1, Some(2), Besides::default()));
}

#[test]
fn a_call_that_is_given_up_at_its_turn_passes_the_slot_on() {
    holds(|| model(2, 1, None, Besides { gives_up: true, ..Besides::default() }));
}

#[test]
fn a_slot_that_is_handed_to_nobody_is_found() {
    finds(Fault::HandedToNobody, || model(3, 1, None, Besides::default()));
}

#[test]
fn calls_of_several_flows_and_priorities_are_handed_on_likewise() {
    holds(|| model(3, 1, None, Besides { differ: true, ..Besides::default() }));
}

#[test]
fn a_request_is_removed_or_handed_on_and_its_caller_answered() {
    holds(|| model(3, 1, None, Besides { removes: true, ..Besides::default() }));
    holds(|| model(3, 1, None, Besides { removes: true, differ: true, ..Besides::default() }));
}

#[test]
fn a_slot_that_is_handed_to_nobody_is_found_among_flows() {
    finds(Fault::HandedToNobody, || {
        model(3, 1, None, Besides { differ: true, ..Besides::default() });
    });
}
