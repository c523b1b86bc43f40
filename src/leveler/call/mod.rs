//! One call, from its dispatch or its place in the queue to its end.
//!
//! - [`Inner`](inner::Inner) is the inner service of one `layer()` call, behind its lock.
//! - A [`QueuedCall`](queued::QueuedCall) is a request in the queue. Request and reply go through
//!   its [`Exchange`](exchange::Exchange), as a [`Reply`](reply::Reply).
//! - An [`InFlight`](in_flight::InFlight) is the record of a call that runs, with its slot.
//!   [`Running`](running::Running) is its future, a [`Task`](task::Task) runs that on its own, and
//!   a [`HeldSlot`](held_slot::HeldSlot) keeps the slot for the body of the response.

pub(crate) mod exchange;
pub(crate) mod held_slot;
pub(crate) mod in_flight;
pub(crate) mod inner;
pub(crate) mod queued;
pub(crate) mod reply;
pub(crate) mod running;
pub(crate) mod task;
