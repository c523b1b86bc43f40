//! The drain task: the one background task of a leveler.
//!
//! [`spawn`] starts it when a call finds none. [`run`] is its story: each time it is polled, it
//! takes in what others have left ([`intake`]), tells the limit algorithm the time ([`ticks`]),
//! makes room for what was admitted over the bound ([`evict`]), removes what is late ([`expire`]),
//! dispatches what may run ([`dispatch`]), and offers free places to services that wait for one
//! ([`offers`]). One timer wakes it again ([`alarm`]).

mod alarm;
mod dispatch;
mod evict;
mod expire;
mod intake;
mod offers;
mod run;
pub(crate) mod spawn;
mod ticks;

/// So many requests are dispatched, or found late, before other tasks on the same thread get their
/// turn. Tokio's own budget for such loops is 128.
const BATCH: usize = 128;
