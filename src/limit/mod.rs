//! How many calls may run in the inner service at once.
//!
//! A limit is a number you know ([`Fixed`], set by
//! [`Builder::concurrency`](crate::Builder::concurrency)), or an [`Algorithm`] finds the limit from
//! finished calls ([`Builder::adaptive`](crate::Builder::adaptive), or in short
//! [`Builder::adaptive_concurrency`](crate::Builder::adaptive_concurrency)).
//!
//! | what you know | use |
//! | --- | --- |
//! | how many calls the inner sustains | [`Fixed`] |
//! | nothing: start here | [`Bdp`] |
//! | how long calls to the inner may take; many levelers may share the inner | [`LatencyTarget`] |
//! | the inner refuses excess calls, and does so in time | [`Aimd`] |
//! | you want the behaviour of Netflix' Gradient2, and overloads do not last | [`Gradient`] |
//! | all calls take the same time within a few percent | [`Vegas`] |
//!
//! No algorithm learns from [`Outcome::Cancelled`], and only [`Bdp`] from [`Outcome::Ignore`]: many
//! sudden failures lower its limit.

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
mod state;
#[cfg(test)]
mod testing;
mod vegas;
mod view;

pub use self::{
    aimd::Aimd,
    algorithm::Algorithm,
    bdp::Bdp,
    fixed::Fixed,
    gradient::Gradient,
    latency_target::LatencyTarget,
    sample::{Load, Outcome, Sample},
    state::LimitState,
    vegas::Vegas,
    view::View,
};
pub(crate) use self::{bounds::Bounds, latency_target::LOWEST_MIN};
