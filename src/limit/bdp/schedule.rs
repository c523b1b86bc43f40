/// Says when the next `ProbeDown` is due.
///
/// Each probe costs throughput if the limit is right, so each wait is twice as long as the last.
/// After a change of the limit the waits are short again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// The number of tries, each a `Cruise`, since the last probe.
    tries: u32,
    /// The number of tries after which a probe is due.
    due_after: u32,
}

/// The number of tries before the first probe.
const FIRST: u32 = 2;
/// The same if the baseline of a startup is known well.
const FIRST_IF_SURE: u32 = 4 * FIRST;
/// The most tries between two probes.
const MAX: u32 = 48;

impl Default for Schedule {
    fn default() -> Self {
        Self { tries: 0, due_after: FIRST }
    }
}

impl Schedule {
    /// Returns the schedule after a startup with a well-known baseline: a probe is less urgent.
    pub(super) fn after_sure_startup() -> Self {
        Self { tries: 0, due_after: FIRST_IF_SURE }
    }

    /// Counts a try. Returns whether a probe is due. If so, doubles the wait for the next probe.
    pub(super) fn is_due(&mut self) -> bool {
        self.tries += 1;
        let due = self.tries >= self.due_after;
        if due {
            self.tries = 0;
            self.due_after = (2 * self.due_after).min(MAX);
        }
        due
    }

    /// Starts the count anew, with the same wait.
    pub(super) fn postpone(&mut self) {
        self.tries = 0;
    }
}
