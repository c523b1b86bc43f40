//! Notices a service driven as fast as it accepts, although the queue is full.

use crate::{
    leveler::{admission::refusal::Refusal, core::Core},
    options::Overflow,
};

/// The consecutive calls of one service refused by the full queue.
///
/// A worker that pulls work from another queue calls one service value again and again, and expects
/// `poll_ready` to hold it back. Servers clone the service for each request, and a clone starts at
/// zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FullStreak(u32);

/// The length of the streak to report. Less: reports also for callers that share a value and would
/// have been admitted soon. More: more work is refused before the report.
const TOLD_AT: u32 = 100;

impl FullStreak {
    /// Takes note of a call that was admitted.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.0 = 0;
    }

    /// Takes note of a refusal. The first streak of a leveler is reported, once.
    #[inline]
    pub(crate) fn add(&mut self, why: Refusal, core: &Core) {
        if matches!(why, Refusal::Full) {
            self.0 = self.0.wrapping_add(1);
            if self.0 == TOLD_AT {
                report(core);
            }
        }
    }
}

/// Reports a streak under `Overflow::Reject`, unless one was reported before.
#[cold]
fn report(core: &Core) {
    if core.settings.overflow == Overflow::Reject && core.is_first_streak() {
        tracing::info!(
            name = %core.settings.name, refused = TOLD_AT,
            hint = "a service that takes work from another queue needs `Overflow::Wait`",
            "one service was refused again and again, the queue is full"
        );
    }
}
