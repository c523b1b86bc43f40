//! Laws 10 and 19, with wakers whose functions do everything that a program may do.
//!
//! Each combination of a function of the waker, an act, a polled future, an overflow, an execution
//! and an end is played on a thread of its own. A combination that hangs is a failure. In the end
//! every call has been answered, the books balance, and all places and slots are free.

#[path = "../../../../tests/support/gate.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod gate;
mod play;
#[path = "../../../../tests/support/watchdog.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod watchdog;
mod world;

use std::{
    panic::catch_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use play::play;
use tower_load_leveling::{Execution, Overflow};
use wakers::Function;
use watchdog::ends_with;
use world::Act;

/// The polled future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Queued,
    Running,
    PollReady,
    Idle,
    Changed,
    Drain,
}

/// The end of the polled future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Polled until ready.
    Ready,
    /// Dropped after some polls.
    Dropped,
    /// The waiting requests are removed, and then the future is polled again.
    Aborted,
    /// Time passes beyond all limits, and then the future is polled again.
    Late,
}

impl End {
    const EACH: [Self; 4] = [Self::Ready, Self::Dropped, Self::Aborted, Self::Late];
}

/// A way to play.
#[derive(Clone, Copy, Debug)]
struct Setting {
    function: Function,
    act: Act,
    subject: Subject,
    overflow: Overflow,
    execution: Execution,
    end: End,
}

fn play_all(subject: Subject) {
    let (mut failed, acts) = (Vec::new(), Arc::new([const { AtomicUsize::new(0) }; 4]));
    for overflow in [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest] {
        if subject == Subject::PollReady && overflow != Overflow::Wait {
            continue;
        }
        for execution in [Execution::Spawn, Execution::Caller] {
            for function in Function::EACH {
                for act in Act::EACH {
                    for end in End::EACH {
                        let setting = Setting { function, act, subject, overflow, execution, end };
                        let (what, acts) = (format!("{setting:?}"), Arc::clone(&acts));
                        let play = async move || {
                            acts[function as usize].fetch_add(play(setting).await, SeqCst);
                        };
                        if catch_unwind(|| ends_with(&what, play)).is_err() {
                            failed.push(what);
                        }
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "these fail: {failed:#?}");
    for function in [Function::Clone, Function::Wake, Function::Drop] {
        assert!(acts[function as usize].load(SeqCst) > 0, "{function:?} came to no act");
    }
}

#[test]
fn a_queued_call_may_have_any_waker() {
    play_all(Subject::Queued);
}

#[test]
fn a_running_call_may_have_any_waker() {
    play_all(Subject::Running);
}

#[test]
fn a_service_that_waits_for_a_place_may_have_any_waker() {
    play_all(Subject::PollReady);
}

#[test]
fn a_watcher_of_the_end_of_all_work_may_have_any_waker() {
    play_all(Subject::Idle);
}

#[test]
fn a_watcher_of_room_may_have_any_waker() {
    play_all(Subject::Changed);
}

#[test]
fn a_drain_may_have_any_waker() {
    play_all(Subject::Drain);
}
