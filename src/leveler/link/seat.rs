//! The life of the drain task: which generation drains, and on which runtime.

use tokio::runtime::Handle;

use crate::{
    leveler::runtime::{Host, RuntimeId},
    sync::{
        CachePadded, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
        fault::{Fault, is_planted},
    },
};

/// The seat of the drain task. At most one generation of the task holds it, and drains.
///
/// ```text
/// absent ──▶ seated                begin: a call found none
/// seated ──▶ seated, next one      move_to: the runtime of the task is not driven
/// seated ──▶ absent                end: the leveler has gone, or the runtime of the task has
/// ```
///
/// The state `T` of the task from poll to poll stays on the seat. A generation takes the state at
/// the beginning of a poll, and returns the state at the end. Therefore:
///
/// - Two generations never drain at once: a task with the state in hand is being polled, so its
///   runtime is driven, and the seat does not move.
/// - If a generation has lost the seat, its next poll finds so, and the generation ends.
#[derive(Debug)]
pub(crate) struct Seat<T, H = Handle> {
    /// The number of the generation: odd while seated, even while no generation is seated. Changes
    /// only under the lock, and is read without.
    generation: AtomicU64,
    /// The runtime of the last generation, as a number. Set before the generation.
    home: AtomicU64,
    /// Locked twice in a turn. The words above are read by every request that waits.
    inside: CachePadded<Mutex<Inside<T, H>>>,
}

#[derive(Debug)]
struct Inside<T, H> {
    /// The runtime of the present generation.
    host: Option<H>,
    state: State<T>,
    /// The number of ended polls of the drain task, of all generations.
    ///
    /// Counted at the end. A wake-up is spared while the task is being polled, and the end of the
    /// poll then keeps the seat in place. If a generation loses the seat, it has been woken: it
    /// runs when its runtime is driven again, and ends.
    polls: u64,
}

#[derive(Debug)]
enum State<T> {
    /// Not made yet.
    Unmade,
    /// The drain task is between two polls.
    Here(T),
    /// The drain task is being polled.
    Taken,
}

/// The number of a generation of the drain task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The state of the drain task, during a poll. Returned in `Drop`.
#[derive(Debug)]
pub(crate) struct Taken<'a, T, H = Handle> {
    seat: &'a Seat<T, H>,
    /// `None` once returned.
    state: Option<T>,
}

impl<T, H: Host> Seat<T, H> {
    pub(super) fn new() -> Self {
        let inside = Inside { host: None, state: State::Unmade, polls: 0 };
        Self {
            generation: AtomicU64::new(0),
            home: AtomicU64::new(RuntimeId::NONE.0),
            inside: CachePadded::new(Mutex::new(inside)),
        }
    }

    /// Returns whether a drain task exists.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.generation.load(SeqCst) % 2 == 1
    }

    /// Returns whether no other generation has taken the seat.
    pub(crate) fn is_held_by(&self, generation: Generation) -> bool {
        self.generation.load(SeqCst) == generation.0
    }

    /// Returns whether the drain task lives on `runtime`, or did last.
    #[inline]
    pub(crate) fn is_at(&self, runtime: RuntimeId) -> bool {
        self.home.load(SeqCst) == runtime.0
    }

    /// Returns the runtime of the drain task.
    pub(crate) fn host(&self) -> Option<H> {
        self.inside.lock().host.clone()
    }

    /// Returns the number of ended polls of the drain task.
    pub(crate) fn polls(&self) -> u64 {
        self.inside.lock().polls
    }

    /// Begins a generation on `runtime`, for the caller to spawn. `None` if a generation is seated.
    pub(crate) fn begin(&self, runtime: &H) -> Option<Generation> {
        let mut inside = self.inside.lock();
        if self.is_taken() {
            return None;
        }
        let before = self.seat(&mut inside, runtime, 1);
        drop(inside);
        drop(before.1);
        Some(before.0)
    }

    /// Begins a generation on `runtime`, for the caller to spawn, in place of the seated
    /// generation. `None` if the drain task is being polled, or was polled since its `polls` were
    /// counted.
    pub(crate) fn move_to(&self, runtime: &H, polls: u64) -> Option<Generation> {
        let mut inside = self.inside.lock();
        let is_driven = inside.polls != polls || matches!(inside.state, State::Taken);
        let is_driven = is_driven && !is_planted(Fault::MovedWhilePolled);
        if is_driven || !self.is_taken() || self.is_at(runtime.id()) {
            return None;
        }
        let before = self.seat(&mut inside, runtime, 2);
        drop(inside);
        drop(before.1);
        Some(before.0)
    }

    /// Seats the next generation. Also returns the former host, to be dropped outside of the lock.
    fn seat(&self, inside: &mut Inside<T, H>, runtime: &H, step: u64) -> (Generation, Option<H>) {
        let before = inside.host.replace(runtime.clone());
        self.home.store(runtime.id().0, SeqCst);
        let next = self.generation.load(SeqCst) + step;
        self.generation.store(next, SeqCst);
        (Generation(next), before)
    }

    /// Ends a generation. Returns false if another generation has taken the seat meanwhile.
    pub(crate) fn end(&self, generation: Generation) -> bool {
        let mut inside = self.inside.lock();
        if self.generation.load(SeqCst) != generation.0 {
            return false;
        }
        self.generation.store(generation.0 + 1, SeqCst);
        let host = inside.host.take();
        drop(inside);
        drop(host);
        true
    }

    /// Takes the state for a poll of a generation. `None` if the generation has lost the seat.
    /// Calls `make` for the first state.
    pub(crate) fn take(&self, by: Generation, make: impl FnOnce() -> T) -> Option<Taken<'_, T, H>> {
        let mut inside = self.inside.lock();
        if self.generation.load(SeqCst) != by.0 {
            return None;
        }
        let state = std::mem::replace(&mut inside.state, State::Taken);
        drop(inside);
        let state = match state {
            State::Here(state) => state,
            // The state is never `Taken` here: a generation is one task, and moves only between two
            // polls.
            State::Unmade | State::Taken => make(),
        };
        Some(Taken { seat: self, state: Some(state) })
    }
}

impl<T, H> Taken<'_, T, H> {
    /// Returns the state.
    #[inline]
    pub(crate) fn get(&mut self) -> Option<&mut T> {
        self.state.as_mut()
    }
}

impl<T, H> Drop for Taken<'_, T, H> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            let mut inside = self.seat.inside.lock();
            inside.state = State::Here(state);
            inside.polls += 1;
        }
    }
}

#[cfg(all(test, shuttle))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    pub(super) struct At(u64);

    impl Host for At {
        fn id(&self) -> RuntimeId {
            RuntimeId(self.0)
        }
    }

    pub(super) const ONE: At = At(1);
    pub(super) const OTHER: At = At(2);

    #[test]
    fn one_generation_is_seated_and_the_state_stays_with_the_seat() {
        let seat = Seat::new();
        let first = seat.begin(&ONE).expect("none is seated");
        assert!(seat.begin(&OTHER).is_none());
        *seat.take(first, || 1).expect("seated").get().expect("there") += 1;
        let second = seat.move_to(&OTHER, seat.polls()).expect("not polled since");
        assert!(seat.take(first, || 0).is_none(), "it has lost the seat");
        assert!(!seat.end(first));
        assert_eq!(seat.take(second, || 0).expect("seated").get(), Some(&mut 2));
        assert!(seat.end(second) && !seat.is_taken());
    }

    #[test]
    fn it_moves_only_between_two_polls_and_only_to_another_runtime() {
        let seat = Seat::new();
        assert!(seat.move_to(&ONE, seat.polls()).is_none(), "none is seated");
        let first = seat.begin(&ONE).expect("none is seated");
        let seen = seat.polls();
        assert!(seat.move_to(&ONE, seen).is_none(), "it is there");
        let state = seat.take(first, || ());
        assert!(seat.move_to(&OTHER, seen).is_none(), "it is being polled");
        drop(state);
        assert!(seat.move_to(&OTHER, seen).is_none(), "it was polled");
        assert!(seat.move_to(&OTHER, seat.polls()).is_some());
    }

    #[test]
    fn a_poll_counts_at_its_end_since_it_spares_the_wake_up() {
        let seat = Seat::new();
        let first = seat.begin(&ONE).expect("none is seated");
        let state = seat.take(first, || ());
        let seen = seat.polls();
        drop(state);
        assert!(seat.move_to(&OTHER, seen).is_none(), "it may sleep for good");
    }

    #[test]
    fn the_state_is_returned_by_a_poll_that_panics() {
        let seat = Seat::new();
        let first = seat.begin(&ONE).expect("none is seated");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut state = seat.take(first, || 1).expect("seated");
            *state.get().expect("there") = 7;
            panic!("in a poll");
        }));
        assert!(panicked.is_err() && seat.end(first));
        let second = seat.begin(&ONE).expect("none is seated");
        assert_eq!(seat.take(second, || 0).expect("seated").get(), Some(&mut 7));
    }
}
