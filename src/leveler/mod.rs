//! The leveler behind a layer.
//!
//! Who owns what:
//!
//! - [`Leveler`]: held by layers, handles and services. It has the sending side of the channel, so when
//!   the last of them is gone the channel closes and the drain task ends.
//! - [`Core`]: held by the leveler, the drain task and every request: places, counters, settings, and the
//!   [`Backlog`].
//! - [`Backlog`]: the receiving side and the line. The drain task works on it; others lock it for a
//!   moment to move what is in a full channel into the line, to look at its head, or to empty it.
//! - [`Inner`](call::inner::Inner): the inner service of one `layer()` call.
//! - A [`Job`](call::queued::Job): one request while it waits, shared by the line and its caller.
//! - An [`InFlight`](call::in_flight::InFlight): the slot of one running call.
//!
//! No code of the user's runs while the backlog is locked: requests are dropped, inner services polled
//! and callers answered outside. An inner runs under its own lock, an [`Algorithm`] under that of the
//! controller.

pub(crate) mod admission;
pub(crate) mod call;
mod core;
mod drain;
mod front;
mod idle;
mod limiter;
mod snapshot;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub(crate) use self::{
    admission::{
        demand, occupancy, places, prediction, refusal, reservation, shedder, waitlist, word,
    },
    call::{exchange, held_slot, in_flight, inline_poll, inner, queued, reply, task},
    core::{Core, Settings},
    drain::{backlog, inbox, pace, run, ticks, wakeup},
    front::{Front, Leveler},
    inner::{Failure, Inner},
    queued::Job,
    refusal::{Prediction, Refusal},
    waitlist::WaiterId,
};

/// Locks, and goes on after a panic of somebody else: what we lock is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs code that may call into the user's (a `Drop`, say), and keeps its panic from others.
fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
