//! One call, from the queue to its end.

pub(crate) mod exchange;
pub(crate) mod held_slot;
pub(crate) mod in_flight;
pub(crate) mod inline_poll;
pub(crate) mod inner;
pub(crate) mod queued;
pub(crate) mod reply;
pub(crate) mod task;
