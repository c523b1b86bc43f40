use super::{cut::Cut, interval::Interval, startup::Startup, statistics::Mean};

/// The purpose of a trial. The first four are states of BBR
/// (draft-cardwell-iccrg-bbr-congestion-control), with the limit in place of the pacing rate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Doubles the limit until calls take clearly longer than before.
    Startup(Startup),
    /// Tries a quarter more than the limit. `Cruise` follows.
    ProbeUp,
    /// Tries the limit itself, to compare with the `ProbeUp` just before, unless a ceiling forbade
    /// the `ProbeUp`.
    Cruise { above: Option<Interval> },
    /// Tries much less than the limit. If throughput does not follow, the limit was far too high.
    ProbeDown,
    /// Measures before the limit is cut: nothing is known, or calls take far too long.
    Verify,
    /// Tries a cut, to see whether throughput follows.
    Backoff(Cut),
}

/// The next limit to try, and the purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) phase: Phase,
    /// The limit, before rounding and before the bounds are applied.
    pub(super) limit: f64,
    /// The wait before measuring, in mean latencies: until all calls dispatched under the former
    /// limit have ended.
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
        Self::Startup(Startup::from(base))
    }

    /// Returns the word for the phase, for observers.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Startup(_) => "startup",
            Self::ProbeUp => "probe_up",
            Self::Cruise { .. } => "cruise",
            Self::ProbeDown => "probe_down",
            Self::Verify => "verify",
            Self::Backoff(_) => "backoff",
        }
    }

    /// Returns how many successes end an interval of this phase at `limit`.
    pub(super) fn samples_needed(&self, limit: f64, variation: f64) -> f64 {
        let count = match self {
            Self::Startup(startup) => {
                (STARTUP_SAMPLES + 2.0 * limit) * if startup.extended { 2.0 } else { 1.0 }
            }
            Self::ProbeUp => PROBE_UP_SAMPLES,
            Self::Cruise { .. } => CRUISE_SAMPLES,
            Self::ProbeDown => PROBE_DOWN_SAMPLES,
            Self::Verify => VERIFY_SAMPLES,
            Self::Backoff(_) => BACKOFF_SAMPLES,
        };
        (count * variation).max(1.2 * limit)
    }
}
