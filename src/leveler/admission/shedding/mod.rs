//! Shedding by priority: under lasting overload, lower priorities are refused before the queue is
//! full.
//!
//! Each newcomer asks the [`Shedder`](shedder::Shedder), which holds atomics alone. Once a second
//! the drain task ends a [`Window`](window::Window): [`Arrivals`](arrivals::Arrivals) gives the
//! counts, and the pure [`Cutoff`](cutoff::Cutoff) decides where to cut.
//! [`FlowDemand`](demand::FlowDemand) knows the flows to leave alone.
//!
//! The method is from DAGOR (Zhou et al., "Overload control for scaling WeChat microservices",
//! 2018), with cohorts as in Uber's Cinnamon.

mod arrivals;
mod cutoff;
mod demand;
pub(crate) mod shedder;
pub(crate) mod window;
