//! The load and its times.

use std::{ops::Range, time::Duration};

/// After this a client has no use for the answer any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// What a client tells the server of it: its patience, less the way there and back.
pub(crate) const BUDGET: Duration = Duration::from_millis(950);
/// How long a run waits for work that nobody waits for any more.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);

pub(crate) struct Plan {
    /// The load: (times what the database can do, for how long).
    pub(crate) phases: [(f64, Duration); 3],
    /// How long one look at the database takes.
    pub(crate) gauge: Duration,
}

impl Plan {
    pub(crate) fn new(smoke: bool) -> Self {
        let scale = if smoke { 0.15 } else { 1.0 };
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds * scale);
        Self {
            phases: [(0.5, seconds(5.0)), (10.0, seconds(8.0)), (0.5, seconds(6.0))],
            gauge: seconds(2.0),
        }
    }

    /// The calm before, the flood, and the calm after, as times from the start.
    pub(crate) fn before(&self) -> Range<Duration> {
        Duration::ZERO..self.phases[0].1
    }

    pub(crate) fn flood(&self) -> Range<Duration> {
        self.phases[0].1..self.phases[0].1 + self.phases[1].1
    }

    pub(crate) fn after(&self) -> Range<Duration> {
        self.flood().end..self.length()
    }

    pub(crate) fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.1).sum()
    }
}
