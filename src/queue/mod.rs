//! The line: what waits, in which order, and until when.
//!
//! Plain structs. Time comes in as an argument; there is no clock, lock or `await` here, so all of it is
//! tested without a runtime. From the outside in:
//!
//! - [`FairQueue`]: five levels, one for each priority. Higher ones first, each with its guaranteed share.
//! - [`PriorityLevel`](level::PriorityLevel): flows. The one that has had least of the inner's time first.
//! - [`Requests`](requests::Requests): requests, the oldest or the newest first, as [`AdaptiveLifo`](turn::AdaptiveLifo) says, and past
//!   those in [`Parked`](lanes::Parked), whose inner is not ready.
//!
//! [`Expiry`] is beside it: who is late, whatever the order. [`Pace`] says when the next may go, and
//! [`Cut`] who is not even let in under lasting overload.

mod adaptive_lifo;
mod charge;
mod controlled_delay;
mod expiry;
mod fair_queue;
mod flow_queue;
mod flow_table;
mod heavy_hitters;
mod item;
mod longest_queue;
mod open_charges;
mod parked;
mod priority_level;
#[expect(clippy::module_inception, reason = "it is the file of the type `Queue`")]
mod queue;
mod requests;
mod rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod turns;
mod virtual_time_heap;

pub(crate) use self::{
    adaptive_lifo::MIN_THRESHOLD,
    charge::{Charge, ChargeId},
    expiry::Expiry,
    fair_queue::{FairQueue, Next, Times, Victim},
    item::{Entry, InnerId, QueueItem},
    priority_level::LevelSummary,
    queue::Queue,
    rules::Rules,
};
