//! Scenarios in virtual time, through the real layer.
//!
//! Only the clock and the backend are simulated: the layer, its drain task and the runtime are the
//! real ones, on one thread and a paused clock. The loop in [`world`] goes from event to event, so
//! times are exact but for the timers of the layer itself, which tokio rounds up to the
//! millisecond.
#![allow(dead_code, unreachable_pub, reason = "test and bench use their own parts")]

pub mod backend;
pub mod catalog;
pub mod random;
pub mod report;
pub mod traffic;
pub mod world;
