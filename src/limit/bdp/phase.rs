use super::{interval::Interval, statistics::Mean};

/// The purpose of a trial. The first four are states of BBR
/// (draft-cardwell-iccrg-bbr-congestion-control), with the limit in place of the pacing rate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Doubles the limit until calls take clearly longer than before.
    Startup {
        /// The mean latency while calls took no longer.
        base: Mean,
        /// The interval at half of this limit, unless this is the first.
        below: Option<Interval>,
        /// Set if the interval goes on for twice as many calls, to be sure before startup ends.
        extended: bool,
    },
    /// Tries a quarter more than the limit. `Cruise` follows.
    ProbeUp,
    /// Tries the limit itself, to compare with the `ProbeUp` just before (`above`).
    Cruise { above: Interval },
    /// Tries much less than the limit. If throughput does not follow, the limit was far too high.
    ProbeDown,
    /// Measures before the limit is cut: nothing is known, or calls take far longer than they
    /// should.
    Verify,
    /// Tries a cut. `first` is set for the first in a row; only a search without a target makes
    /// more.
    Backoff { before: Interval, first: bool },
}

/// The next limit to try, and the purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) phase: Phase,
    /// The limit, before rounding and before the bounds are applied.
    pub(super) limit: f64,
    /// The wait before measuring, in mean latencies: until the calls that were dispatched under the
    /// limit before are through.
    pub(super) warm_up: f64,
}

// How many successes end an interval, for service times whose squared coefficient of variation is
// 1. The relative error of a rate from n calls is 1/√n.
const STARTUP_SAMPLES: f64 = 20.0;
const PROBE_UP_SAMPLES: f64 = 128.0;
const CRUISE_SAMPLES: f64 = 256.0;
pub(super) const PROBE_DOWN_SAMPLES: f64 = 128.0;
const VERIFY_SAMPLES: f64 = 24.0;
const BACKOFF_SAMPLES: f64 = 48.0;

impl Phase {
    /// Returns a startup from a baseline, which may be empty.
    pub(super) fn startup(base: Mean) -> Self {
        Self::Startup { base, below: None, extended: false }
    }

    /// Returns the same phase, with twice as many calls to come if it is a startup.
    pub(super) fn extended(self) -> Self {
        match self {
            Self::Startup { base, below, .. } => Self::Startup { base, below, extended: true },
            other => other,
        }
    }

    /// Returns how many successes end an interval of this phase at `limit`.
    pub(super) fn samples_needed(&self, limit: f64, variation: f64) -> f64 {
        let count = match self {
            Self::Startup { extended, .. } => {
                (STARTUP_SAMPLES + 2.0 * limit) * if *extended { 2.0 } else { 1.0 }
            }
            Self::ProbeUp => PROBE_UP_SAMPLES,
            Self::Cruise { .. } => CRUISE_SAMPLES,
            Self::ProbeDown => PROBE_DOWN_SAMPLES,
            Self::Verify => VERIFY_SAMPLES,
            Self::Backoff { .. } => BACKOFF_SAMPLES,
        };
        (count * variation).max(1.2 * limit)
    }
}
