//! The leveler behind a layer: one queue, one limit, one drain task.
//!
//! Ownership:
//!
//! - [`Leveler`](front::Leveler): held by layers, handles and services. When the last owner is
//!   gone, the drain task ends.
//! - [`Core`](core::Core): shared by the leveler, the drain task and every request. Its parts:
//!   [`Admission`](admission::Admission) admits requests, and gives out places and slots;
//!   [`Limiter`](limiter::Limiter) finds the limit; [`Link`](link::Link) leads to the drain task;
//!   [`Metrics`](metrics::Metrics), [`Runtime`](runtime::Runtime) and
//!   [`InlinePolling`](inline_polling::InlinePolling) are named for their content.
//! - The drain task ([`drain`]) owns the state that orders its work: pace, ticker, timer, shed
//!   window.
//! - A call ([`call`]) owns a right: a place while waiting, a slot while running.
//!
//! Locks, the data behind each, and the code that may run under each:
//!
//! | lock | guards | runs under it |
//! | --- | --- | --- |
//! | [`Inner`](call::inner::Inner) | one inner service | its `poll_ready` and `call` |
//! | [`Link::backlog`](link::Link::backlog) | the order of the queue | our code |
//! | [`Exchange`](call::exchange) | request or reply, two wakers | our code |
//! | [`Limiter`](limiter::Limiter) | the limit algorithm | its methods; the new limit is stored |
//! | [`Seat`](link::seat::Seat), standbys | the life of the drain task | our code |
//! | wait list, watchers, inboxes | lists | our code |
//!
//! Requests are dropped, callers answered, and wakers cloned, woken and dropped outside of all
//! locks. No waker of a caller gets into a list or a timer of tokio's, which would clone it under a
//! lock, or pass its panic on: see [`Relay`](relay::Relay). The drain task and its
//! standbys are tasks of tokio's, with tokio's wakers, and use tokio's timers and `Notify`. The
//! first and the fourth lock are a [`UserMutex`](crate::sync::UserMutex). The rest are a
//! [`Mutex`](crate::sync::Mutex), which panics in tests if user code under the lock takes another
//! lock.
//!
//! Imports run in one direction: `drain` → `call` → `core` → `admission` → the leaves.

pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod core;
pub(crate) mod drain;
mod edge;
pub(crate) mod front;
mod husks;
pub(crate) mod inline_polling;
pub(crate) mod kind;
mod limiter;
mod link;
mod max_wait;
mod metrics;
pub(crate) mod nesting;
mod overload;
pub(crate) mod pace;
pub(crate) mod panics;
pub(crate) mod relay;
pub(crate) mod reload;
pub(crate) mod runtime;
pub(crate) mod settings;
pub(crate) mod snapshot;
mod stall;
pub(crate) mod timer;
mod vitals;
pub(crate) mod watchers;
