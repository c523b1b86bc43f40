//! The life of a call, from the queue or a direct dispatch to the end.
//!
//! - [`Inner`](inner::Inner) is the inner service of a `layer()` call, behind a lock.
//! - A [`CallContext`](context::CallContext) is the surroundings of the inner's code for a call.
//! - A [`QueuedCall`](queued::QueuedCall) is a request in the queue. Request and reply go through
//!   an [`Exchange`](exchange::Exchange), the latter as a [`Reply`](reply::Reply).
//! - An [`InFlight`](in_flight::InFlight) is the record of a running call, with its slot.
//!   [`Running`](running::Running) is the future of the call, a [`SpawnedCall`](task::SpawnedCall)
//!   is a direct call that a task runs, and [`held_slot`] keeps the slot for the body of the
//!   response.

pub(crate) mod context;
mod death_mark;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod held_slot;
mod idle;
pub(crate) mod in_flight;
pub(crate) mod inner;
pub(crate) mod queued;
pub(crate) mod reply;
pub(crate) mod running;
pub(crate) mod task;
mod terms;
mod unanswered;
