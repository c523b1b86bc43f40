//! How many calls may run in the inner service at once.
//!
//! A limit is either a number you know ([`Fixed`], set by
//! [`Builder::concurrency`](crate::Builder::concurrency)) or one that an [`Algorithm`] finds from what
//! finished calls tell it ([`Builder::adaptive`](crate::Builder::adaptive), or in short
//! [`Builder::adaptive_concurrency`](crate::Builder::adaptive_concurrency)).
//!
//! | what you know | use |
//! | --- | --- |
//! | how many calls the inner sustains | [`Fixed`] |
//! | nothing: the one to start with | [`Bdp`] |
//! | how long calls to the inner may take; many levelers may share it | [`LatencyTarget`] |
//! | the inner refuses what is too much, and does so in time | [`Aimd`] |
//! | you want what Netflix' Gradient2 does, and overloads do not last | [`Gradient`] |
//! | all calls take the same time within a few percent | [`Vegas`] |
//!
//! None of them learns from [`Outcome::Cancelled`], and from [`Outcome::Ignore`] only [`Bdp`]: many sudden failures
//! lower its limit.

mod aimd;
mod algorithm;
mod bdp;
mod bounds;
mod fixed;
#[cfg(test)]
mod fleet;
mod gradient;
mod latency_target;
mod sample;
#[cfg(test)]
mod testing;
mod vegas;

pub use self::{
    aimd::Aimd,
    algorithm::Algorithm,
    bdp::Bdp,
    fixed::Fixed,
    gradient::Gradient,
    latency_target::LatencyTarget,
    sample::{Load, Outcome, Sample},
    vegas::Vegas,
};
