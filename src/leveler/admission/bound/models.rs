//! The admission word, while the limit changes, a reservation is used and the queue is drained.
//!
//! - In flight ≤ limit at the instant at which a slot is granted (law 2).
//! - Held ≤ capacity + limit, and no newcomer is refused while a place is free (law 3).
//! - No call runs directly from beginning to end of a dispatch (law 7).
//! - At rest nothing is held, and each of the waiting requests gets its slot.

use std::sync::{Arc, Mutex, PoisonError};

use shuttle::thread;

use super::{Bound, Denied, Slots, Taken};
use crate::sync::{
    explore::{finds, holds},
    fault::Fault,
};

const CAPACITY: usize = 1;
const LIMIT: usize = 2;

/// The bound, and a bystander's view of the bound. No other thread can come between an operation on
/// the bound and the entry after it: the scheduler switches at the beginning of an operation.
struct World {
    bound: Bound,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    limit: usize,
    running: usize,
    queued: usize,
    refused: usize,
    /// The number of the present dispatch from the queue, if any.
    dispatch: Option<usize>,
    dispatches: usize,
}

impl World {
    fn new() -> Arc<Self> {
        let seen = Seen { limit: LIMIT, ..Seen::default() };
        Arc::new(Self { bound: Bound::new(CAPACITY, LIMIT as f64), seen: Mutex::new(seen) })
    }

    fn see<R>(&self, see: impl FnOnce(&mut Seen) -> R) -> R {
        see(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_limit(&self, limit: usize) {
        let _ = self.bound.set_limit(limit as f64);
        self.see(|seen| seen.limit = limit);
    }

    /// A call, with a reservation or without.
    fn call(&self, is_reserved: bool) {
        let before = self.see(|seen| seen.dispatch);
        let taken = match is_reserved {
            true => self.bound.use_reservation(true),
            false => self.bound.take(1, true, 0),
        };
        match taken {
            Ok(Taken::Slots(slots)) => {
                self.see(|seen| {
                    let is_same = before.is_some() && before == seen.dispatch;
                    assert!(!is_same, "a queued request was overtaken");
                });
                self.run(slots);
            }
            Ok(Taken::Places) => self.see(|seen| seen.queued += 1),
            Err(Denied::Full) => self.see(|seen| seen.refused += 1),
            Err(Denied::Closed) => unreachable!("nobody closes"),
        }
    }

    /// Runs a call with a slot granted just now.
    fn run(&self, slots: Slots) {
        self.see(|seen| {
            assert!(slots.in_flight as usize <= seen.limit, "beyond the limit");
            seen.running += 1;
            assert!(seen.running <= LIMIT, "beyond the highest limit");
        });
        let held = self.bound.counts().held();
        assert!(held <= CAPACITY + LIMIT, "{held} places are held");
        self.see(|seen| seen.running -= 1);
        self.bound.release_running(slots.taken);
    }

    /// Dispatches a request of the queue, as the drain task does. Returns false without a slot.
    fn dispatch(&self) -> bool {
        if self.see(|seen| seen.queued) == 0 {
            return true;
        }
        let Some(slots) = self.bound.take_slots(1, 1) else { return false };
        self.see(|seen| {
            seen.queued -= 1;
            seen.dispatches += 1;
            seen.dispatch = Some(seen.dispatches);
            assert!(slots.in_flight as usize <= seen.limit, "dispatched beyond the limit");
        });
        // In place of the call.
        let _ = self.bound.counts();
        self.see(|seen| seen.dispatch = None);
        self.bound.end_dispatching();
        self.run(slots);
        true
    }
}

fn model() {
    let world = World::new();
    world.bound.reserve().expect("all places are free");
    let spawn = |run: fn(&World)| {
        let world = Arc::clone(&world);
        thread::spawn(move || run(&world))
    };
    let threads = [
        spawn(|world| world.call(true)),
        spawn(|world| world.call(false)),
        spawn(|world| {
            world.set_limit(1);
            world.set_limit(LIMIT);
        }),
        spawn(|world| {
            world.call(false);
            for _ in 0..2 {
                world.dispatch();
            }
        }),
    ];
    threads.into_iter().for_each(|thread| thread.join().expect("no law is broken"));
    // A refused request found the lower limit: three places are enough for three.
    let (refused, queued) = world.see(|seen| (seen.refused, seen.queued));
    assert!(refused <= 1, "{refused} were refused");
    for _ in 0..queued {
        assert!(world.dispatch(), "a slot is lost");
    }
    assert_eq!(world.bound.counts().0, 0, "something is still held");
    assert_eq!(world.bound.reserved(), 0, "something is still reserved");
    for _ in 0..LIMIT {
        assert!(matches!(world.bound.take(1, true, 0), Ok(Taken::Slots(_))));
    }
    for _ in 0..CAPACITY {
        assert!(matches!(world.bound.take(1, true, 0), Ok(Taken::Places)));
    }
    assert_eq!(world.bound.take(1, true, 0), Err(Denied::Full), "the bound is exact");
}

#[test]
fn no_interleaving_breaks_the_limit_or_the_bound() {
    holds(model);
}

#[test]
fn taking_in_two_steps_is_found() {
    finds(Fault::TakenInTwoSteps, model);
}

#[test]
fn a_limit_that_is_looked_at_only_before_the_slot_is_taken_is_found() {
    finds(Fault::LimitSeenOnce, model);
}

#[test]
fn overtaking_a_queued_request_is_found() {
    finds(Fault::Overtaken, model);
}

#[test]
fn a_reservation_that_outlives_its_use_is_found() {
    finds(Fault::ReservationStays, model);
}
