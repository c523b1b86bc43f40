use super::meter::{MIN_SAMPLES, Meter};

/// Notices a sudden rise of immediate failures, and many overloads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    /// The usual share of immediate failures.
    usual_share: f64,
}

/// The tolerated rise of the share of immediate failures, over the usual share.
const SUDDEN_SHARE: f64 = 0.3;
/// The tolerated share of overloads while the limit is in the way.
const OVERLOAD_SHARE_BOUND: f64 = 0.5;
/// The tolerated share of overloads otherwise.
const OVERLOAD_SHARE_FREE: f64 = 0.1;

impl Failures {
    /// Returns whether an interval has too many failures, and learns the usual share.
    pub(super) fn are_too_many(&mut self, meter: &Meter) -> bool {
        let Meter { failed, overloaded, successes, .. } = *meter;
        let all = failed + overloaded + successes;
        if all < MIN_SAMPLES {
            return false;
        }
        let share = failed / all;
        let sudden = share > self.usual_share + SUDDEN_SHARE;
        self.usual_share += 0.1 * (share - self.usual_share);
        let tolerated = if meter.is_bound() { OVERLOAD_SHARE_BOUND } else { OVERLOAD_SHARE_FREE };
        sudden || overloaded > tolerated * all
    }
}
