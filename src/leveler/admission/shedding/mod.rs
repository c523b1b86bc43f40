//! Shedding by priority: under lasting overload, lower priorities are refused before the queue is
//! full.
//!
//! [`Shedder`](shedder::Shedder) is asked by each newcomer and holds atomics alone. Once a second
//! the drain task ends a [`Window`](window::Window): [`Arrivals`](arrivals::Arrivals) says what
//! came, and the pure [`Cutoff`](cutoff::Cutoff) decides where to cut.
//! [`FlowDemand`](demand::FlowDemand) knows the flows that are left alone.
//!
//! The method is that of DAGOR (Zhou et al., "Overload control for scaling WeChat microservices",
//! 2018), with cohorts as in Uber's Cinnamon.

mod arrivals;
mod cutoff;
mod demand;
pub(crate) mod shedder;
pub(crate) mod window;
