//! The concurrency limits of other projects, to compare with.
//!
//! One file per controller, written from its published behaviour, with the constants of its
//! authors:
//!
//! - [`Envoy`]: gradient controller of the adaptive concurrency filter; envoyproxy/envoy,
//!   `source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc` of
//!   2025, before its two minima were told apart; percentile, intervals and jitter of the example
//!   in its documentation
//! - [`VectorArc`]: adaptive request concurrency; vectordotdev/vector,
//!   `src/sinks/util/adaptive_concurrency/controller.rs` of 2025
//! - [`Failsafe`]: adaptive limiter; failsafe-go/failsafe-go, `adaptivelimiter/adaptivelimiter.go`
//!   of 2025
//! - [`LittleLoadshedder`]: load shedder after Little's law; little-loadshedder 0.2.0, `src/lib.rs`
//! - [`Mongo`]: throughput probing; mongodb/mongo,
//!   `src/mongo/db/admission/throughput_probing.{cpp,idl}`, in releases since 7.0
//! - [`HillClimbing`]: thread pool of .NET; dotnet/runtime, `PortableThreadPool.HillClimbing.cs` of
//!   2025
//! - [`Bbr`]: BBR-like limiter; go-kratos/aegis, `ratelimit/bbr/bbr.go` of 2025; zeromicro/go-zero
//!   has much the same in `core/load/adaptiveshedder.go`
//! - [`WindowedVegas`]: Vegas, fed with windows; Netflix/concurrency-limits, `VegasLimit.java` in
//!   `WindowedLimit.java`, of 2025
//!
//! What they have in common here:
//!
//! - [`Outcome::Overload`] is what each project calls a drop. Those that have no such word count it
//!   like any other end. What says nothing about load is not counted.
//! - Where the original has a timer, ours goes off at the first tick or sample after that time: at
//!   most one tick, about 10 ms, late.
//! - A limit is what it lets in at most, as whole calls.

mod bbr;
mod envoy;
mod failsafe;
mod hill_climbing;
mod little_loadshedder;
mod mongo;
mod vector;
mod windowed_vegas;

use std::time::Duration;

use tower_load_leveling::limit::{Algorithm, Outcome, Sample};

use self::{
    bbr::Bbr, envoy::Envoy, failsafe::Failsafe, hill_climbing::HillClimbing,
    little_loadshedder::LittleLoadshedder, mongo::Mongo, vector::VectorArc,
    windowed_vegas::WindowedVegas,
};

/// Returns each of them with its name, fresh, for calls that have so much time.
pub(crate) fn all(seed: u64, deadline: Duration) -> Vec<(&'static str, Box<dyn Algorithm>)> {
    vec![
        ("Envoy gradient", Box::new(Envoy::new(seed))),
        ("Vector ARC", Box::new(VectorArc::new())),
        ("failsafe-go", Box::new(Failsafe::new())),
        // The one that has to be told a latency. Half the deadline leaves the other half to the
        // queue.
        ("little-loadshedder", Box::new(LittleLoadshedder::new(deadline / 2))),
        ("MongoDB probing", Box::new(Mongo::new())),
        (".NET hill climbing", Box::new(HillClimbing::new(seed))),
        ("BBR-like", Box::new(Bbr::new())),
        ("Vegas, windowed", Box::new(WindowedVegas::new(seed))),
    ]
}

/// Whether the call counts at all.
fn counts(sample: &Sample) -> bool {
    matches!(sample.outcome, Outcome::Success | Outcome::Overload)
}

/// Whether that was a drop.
fn dropped(sample: &Sample) -> bool {
    sample.outcome == Outcome::Overload
}

/// Returns the value below which the share `quantile` of `values` lies. Puts them in another order.
fn quantile(values: &mut [f64], quantile: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let nth = (values.len() as f64 * quantile) as usize;
    Some(*values.select_nth_unstable_by(nth.min(last), f64::total_cmp).1)
}

/// The unit in which Vegas and its descendants think: ⌊log₁₀⌋ of the limit, at least 1.
fn magnitude(limit: f64) -> f64 {
    limit.log10().floor().max(1.0)
}

/// SplitMix64 (Steele, Lea and Flood 2014): good enough to jitter with, and the same from the same
/// seed.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        // As many bits as a float has.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
