//! The load and its times.

use std::{ops::Range, time::Duration};

/// The time after which an answer is of no use to the client.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// The time told to the server by a client: the patience, less the time on the way.
pub(crate) const BUDGET: Duration = Duration::from_millis(950);
/// The bound on the time for the database to finish work for clients long gone.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);

pub(crate) struct Plan {
    /// The load: (times the rate of the database, duration).
    pub(crate) phases: [(f64, Duration); 3],
    /// The time of a measurement of the machine.
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
