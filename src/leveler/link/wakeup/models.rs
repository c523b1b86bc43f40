//! The wake-up flag, with several changes while the drain task polls.
//!
//! - A change followed by a wake-up is seen by a later poll: the task never sleeps on a change.
//! - Between two polls the task is woken at most once for each thread that saw the flag off.

use std::{future::poll_fn, sync::Arc, task::Poll};

use shuttle::{future::block_on, thread};

use super::Wakeup;
use crate::sync::{
    atomic::{AtomicUsize, Ordering::SeqCst},
    explore::{finds, holds},
    fault::Fault,
};

const THREADS: usize = 2;
const CHANGES: usize = 2;

fn model() {
    let state = Arc::new((Wakeup::default(), AtomicUsize::new(0)));
    let threads = [(); THREADS].map(|()| {
        let state = Arc::clone(&state);
        thread::spawn(move || {
            let (wakeup, changes) = &*state;
            for _ in 0..CHANGES {
                changes.fetch_add(1, SeqCst);
                wakeup.wake();
            }
        })
    });
    let (wakeup, changes) = &*state;
    block_on(poll_fn(|cx| {
        wakeup.register(cx.waker());
        match changes.load(SeqCst) {
            seen if seen == THREADS * CHANGES => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }));
    threads.into_iter().for_each(|thread| thread.join().expect("it only wakes"));
}

#[test]
fn the_task_sees_every_change() {
    holds(model);
}

#[test]
fn a_flag_set_after_the_wake_up_is_found() {
    finds(Fault::FlagSetLate, model);
}
