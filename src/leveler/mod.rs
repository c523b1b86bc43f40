//! The leveler behind a layer: one queue, one limit, one drain task.
//!
//! Who owns what:
//!
//! - [`Leveler`](front::Leveler): layers, handles and services hold it. It has the sending side of
//!   the channel. When the last of them is gone, the channel closes and the drain task ends.
//! - [`Core`](core::Core): the leveler, the drain task and every request share it. Its parts:
//!   [`Admission`](admission::Admission) knows who may come in and gives out places and slots;
//!   [`Limiter`](limiter::Limiter) finds the limit; [`Link`](link::Link) leads to the drain task;
//!   [`Metrics`](metrics::Metrics), [`Runtime`](runtime::Runtime) and
//!   [`InlinePolling`](inline_polling::InlinePolling) say by their names what they know.
//! - The drain task ([`drain`]) owns what orders its own work: pace, ticker, timer, shed window.
//! - A call ([`call`]) owns its right: a place while it waits, a slot while it runs.
//!
//! Which lock guards what, and what may run under it:
//!
//! | lock | guards | runs under it |
//! | --- | --- | --- |
//! | [`Inner`](call::inner::Inner) | one inner service | its `poll_ready` and `call` |
//! | [`Link::backlog`](link::Link::backlog) | the order of the queue | our code |
//! | [`Exchange`](call::exchange) | request or reply, two wakers | our code |
//! | [`Limiter`](limiter::Limiter) | the limit algorithm | its methods |
//! | wait list, inboxes | lists | our code |
//!
//! Requests are dropped, inner services polled and callers answered outside of our locks.
//!
//! Imports run one way: `drain` → `call` → `core` → `admission` → the leaves.

pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod contain;
pub(crate) mod core;
pub(crate) mod drain;
pub(crate) mod front;
mod idle;
pub(crate) mod inline_polling;
mod limiter;
mod link;
mod metrics;
pub(crate) mod pace;
mod runtime;
pub(crate) mod settings;
pub(crate) mod snapshot;
mod wait_limit;
