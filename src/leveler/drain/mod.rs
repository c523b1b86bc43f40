//! The drain task: the only background task of a leveler.
//!
//! [`spawn`] starts the task when a call finds none. Each poll ([`run`]) takes in the input from
//! other threads ([`intake`]), tells the limit algorithm the time ([`ticks`]), answers the
//! requests of dead inner services ([`bury`]), makes room for requests admitted over the bound
//! ([`evict`]), removes late requests ([`expire`]), dispatches ([`dispatch`]), refuses nested
//! calls that must not wait ([`nested`]), and offers free places to waiting services
//! ([`offers`]). A timer wakes the task again ([`alarm`]). A second timer is for the looks on
//! behalf of an operator ([`lookout`], [`tell`]). On each other runtime with waiting requests, a
//! [`standby`] watches the task, and takes over if the task's runtime is not driven.
//!
//! Under `Execution::Spawn`, the task of a call is a [`runner`]. When the call ends, the runner may
//! make the next call itself ([`hand_on`]), in the turn of the drain task.

mod alarm;
mod attempt;
mod bury;
mod dispatch;
mod evict;
mod expire;
mod hand_on;
mod intake;
mod lookout;
mod nested;
mod offers;
mod run;
pub(crate) mod runner;
pub(crate) mod spawn;
pub(crate) mod standby;
mod tell;
mod ticks;

/// The number of requests dispatched, or found late, before other tasks on the same thread get a
/// turn. Tokio's own budget for loops is 128.
const BATCH: usize = 128;
