/// Notices within a few calls when service times are far too long.
///
/// A cumulative sum (Page, "Continuous inspection schemes", 1954) of service times, as multiples of
/// the target, above [`ALLOWANCE`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alarm(f64);

/// The service time that adds nothing to the sum, as a multiple of the target: halfway between the
/// usual (1) and a bad one (2).
const ALLOWANCE: f64 = 1.5;
/// The most added by one call: no single call raises the alarm.
const MAX_STEP: f64 = 6.0;
/// The sum that raises the alarm. False alarms are some e¹⁶ calls apart, by the usual approximation
/// for exponential times. After a change to four times as long, detection takes about seven calls.
const THRESHOLD: f64 = 16.0;

impl Alarm {
    /// Adds a call with a time of `times_the_target`. Returns whether the sum is too high. If so,
    /// clears the sum.
    pub(super) fn hear(&mut self, times_the_target: f64, variation: f64) -> bool {
        self.0 = (self.0 + (times_the_target - ALLOWANCE).min(MAX_STEP)).max(0.0);
        let raised = self.0 > THRESHOLD * variation;
        if raised {
            self.0 = 0.0;
        }
        raised
    }
}
