//! The seat, with a drain task that is polled while another runtime would take over.
//!
//! - Two generations never have the state at once, and the state is made once.
//! - Each generation finds what the one before has left.

use std::sync::Arc;

use shuttle::thread;

use super::{
    Generation, Seat,
    tests::{At, ONE, OTHER},
};
use crate::sync::{
    atomic::{AtomicUsize, Ordering::SeqCst},
    explore::{finds, holds},
    fault::Fault,
};

/// The state: the number of polls. Beside it, the number of states made.
type Polled = Arc<(Seat<usize, At>, AtomicUsize)>;

/// Polls a generation. Returns false once it has lost the seat.
fn poll(polled: &Polled, generation: Generation) -> bool {
    let (seat, made) = &**polled;
    let make = || {
        made.fetch_add(1, SeqCst);
        0
    };
    let Some(mut taken) = seat.take(generation, make) else { return false };
    // What a poll does takes time.
    thread::yield_now();
    *taken.get().expect("there until the end of the poll") += 1;
    true
}

fn model() {
    let polled: Polled = Arc::new((Seat::new(), AtomicUsize::new(0)));
    let first = polled.0.begin(&ONE).expect("none is seated");
    let drains = thread::spawn({
        let polled = Arc::clone(&polled);
        move || (0..3).take_while(|_| poll(&polled, first)).count()
    });
    let stands_by = thread::spawn({
        let polled = Arc::clone(&polled);
        move || {
            let seen = polled.0.polls();
            thread::yield_now();
            let second = polled.0.move_to(&OTHER, seen);
            let moved = second.is_some_and(|second| poll(&polled, second));
            (second, usize::from(moved))
        }
    });
    let polls = drains.join().expect("no law is broken");
    let (second, more) = stands_by.join().expect("no law is broken");
    let last = second.unwrap_or(first);
    let mut state = polled.0.take(last, || 0).expect("it is seated");
    let left = *state.get().expect("there");
    assert_eq!(left, polls + more, "a generation has not found what was left");
    assert!(polled.1.load(SeqCst) <= 1, "two have had the state at once");
}

#[test]
fn one_generation_at_a_time_has_the_state() {
    holds(model);
}

#[test]
fn a_move_during_a_poll_is_found() {
    finds(Fault::MovedWhilePolled, model);
}
