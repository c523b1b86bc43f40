//! The turn, while several tasks find something to do.
//!
//! - If a thread leaves work to the holder of the turn, the holder does the work or wakes the drain
//!   task.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use shuttle::thread;
use tower::Layer;

use super::OnTurn;
use crate::{
    LoadLevelLayer,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        explore::{finds, holds},
        fault::Fault,
    },
};

/// Remembers that the drain task was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

fn model() {
    let service = LoadLevelLayer::new(1, 1).layer(());
    let core = Arc::clone(service.core());
    let woken = Arc::new(Woken::default());
    core.admission.listeners.drain.register(&Waker::from(Arc::clone(&woken)));
    let left = Arc::new(AtomicUsize::new(0));
    let threads = [(); 3].map(|()| {
        let (core, left) = (Arc::clone(&core), Arc::clone(&left));
        thread::spawn(move || {
            left.fetch_add(1, SeqCst);
            if let Some(turn) = OnTurn::take(&core.admission) {
                left.store(0, SeqCst);
                drop(turn);
            }
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("nothing panics"));
    assert!(left.load(SeqCst) == 0 || woken.0.load(SeqCst), "left to nobody");
}

#[test]
fn what_is_left_to_the_holder_of_the_turn_is_done() {
    holds(model);
}

#[test]
fn a_turn_that_was_missed_without_a_mark_is_found() {
    finds(Fault::TurnMissed, model);
}
