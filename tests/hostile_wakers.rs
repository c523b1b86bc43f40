//! Law 19: nothing that the wakers of others do on the spot finds the leveler locked.
//!
//! A waker is code of the user's: its last drop may drop a task with all that it owns, and some
//! executors run the woken task inside of `wake`. The wakers here call, wait, look and change
//! settings on each occasion. A leveler that is locked at that moment panics in these tests, and
//! waits for ever in a release build. The member `wakers` does the same with all functions of a
//! waker, `clone` too.

mod support;

use std::pin::pin;

use support::{
    EXECUTIONS, builder,
    gate::Gate,
    hostile::{World, poll_with},
    settle,
    watchdog::ends,
};
use tower::Service;
use tower_load_leveling::{Execution, LoadLevelLayer, Overflow};

fn layer(capacity: usize, limit: usize, execution: Execution) -> LoadLevelLayer {
    let builder = builder(capacity, limit).overflow(Overflow::Wait).execution(execution);
    builder.build().expect("valid")
}

#[test]
fn a_service_that_waits_for_a_place_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(0, 1, execution), &gate);
            let mut first = world.service.clone();
            let call = tokio::spawn(tower::ServiceExt::oneshot(first.clone(), 1));
            settle().await;
            // The waker of each poll is replaced by that of the next, and dropped.
            let mut waiting = [(); 3].map(|()| world.service.clone());
            for service in &mut waiting {
                poll_with(&world, 3, |cx| service.poll_ready(cx));
            }
            let mut leaving = world.service.clone();
            poll_with(&world, 1, |cx| leaving.poll_ready(cx));
            drop(leaving);
            let [one, two, _three] = waiting;
            drop(one);
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            settle().await;
            drop(two);
            poll_with(&world, 1, |cx| first.poll_ready(cx));
            drop((first, _three));
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn a_call_that_waits_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(4, 1, execution), &gate);
            let mut service = world.service.clone();
            // All but the first are queued.
            let mut calls: Vec<_> = (1..=4).map(|id| Box::pin(service.call(id))).collect();
            for call in &mut calls {
                poll_with(&world, 3, |cx| call.as_mut().poll(cx));
            }
            settle().await;
            let given_up = calls.pop();
            drop(given_up);
            let removed = world.handle.abort_queued();
            assert_eq!(removed, 2);
            gate.finish_all();
            settle().await;
            for call in &mut calls {
                poll_with(&world, 2, |cx| call.as_mut().poll(cx));
            }
            drop(calls);
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn a_queued_call_that_is_dispatched_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(2, 1, execution), &gate);
            let mut service = world.service.clone();
            let mut calls: Vec<_> = (1..=3).map(|id| Box::pin(service.call(id))).collect();
            for _ in 0..4 {
                for call in &mut calls {
                    poll_with(&world, 2, |cx| call.as_mut().poll(cx));
                }
                gate.finish_all();
                settle().await;
            }
            drop(calls);
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn one_that_watches_may_have_any_waker() {
    ends(|| async {
        let gate = Gate::new();
        let world = World::new(&layer(1, 1, Execution::Spawn), &gate);
        let mut service = world.service.clone();
        let call = service.call(1);
        let (mut idle, mut changed) = (pin!(world.handle.idle()), pin!(world.handle.changed()));
        poll_with(&world, 3, |cx| idle.as_mut().poll(cx));
        poll_with(&world, 3, |cx| changed.as_mut().poll(cx));
        settle().await;
        gate.finish_all();
        call.await.expect("it was admitted");
        idle.await;
        changed.await;
        world.ends_at_rest().await;
    });
}
