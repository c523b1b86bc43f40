//! Notices within a few calls that they take far longer than they should.

/// A cumulative sum (Page, "Continuous inspection schemes", 1954) of how much longer than one and a half times the
/// target calls have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alarm(f64);

/// Between what is (1) and what would be bad (2).
const ALLOWANCE: f64 = 1.5;
/// No single call is to raise the alarm.
const MAX_STEP: f64 = 6.0;
/// False alarms are some e¹⁶ calls apart, by the usual approximation for exponential times. After a
/// change to four times as long it takes about seven calls.
const THRESHOLD: f64 = 16.0;

impl Alarm {
    /// Takes note of a call, which took so many times the target. Returns whether that is too much.
    pub(super) fn hear(&mut self, times_the_target: f64, variation: f64) -> bool {
        self.0 = (self.0 + (times_the_target - ALLOWANCE).min(MAX_STEP)).max(0.0);
        let raised = self.0 > THRESHOLD * variation;
        if raised {
            self.0 = 0.0;
        }
        raised
    }
}
