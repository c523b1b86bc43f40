//! What algorithms are compared with: one that is told.

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Fixed, Load, Sample};

use crate::{engine::TICK, scenario::Scenario, traffic::Steps};

/// Where the yardstick comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// A limit that is always at the knee: fixed, or stepping with it. It knows the backend and not
    /// the sizes of requests.
    Knee,
    /// No limit at all, where there is nothing to be limited.
    NoLimit,
    /// What the backend can serve, in the time that it takes at rest.
    AtRest,
}

impl Oracle {
    /// Returns the algorithm for one of the levelers of a scenario.
    pub fn algorithm(self, scenario: &Scenario) -> Box<dyn Algorithm> {
        match self {
            Self::Knee | Self::AtRest => Box::new(Informed::new(scenario)),
            Self::NoLimit => Box::new(Fixed::new(100_000)),
        }
    }
}

/// Told where the knee is.
#[derive(Debug)]
struct Informed {
    limits: Steps<f64>,
    limit: f64,
    origin: Option<Instant>,
}

impl Informed {
    fn new(scenario: &Scenario) -> Self {
        let knees = scenario.power.0.iter().map(|(from, _)| {
            let share = scenario.knee(*from) / scenario.joins.len() as f64;
            (*from, share)
        });
        let limits = Steps(knees.collect());
        Self { limit: limits.at(0.0), limits, origin: None }
    }
}

impl Algorithm for Informed {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, _: &Sample) {}

    fn on_tick(&mut self, now: Instant, _: &Load) {
        let origin = *self.origin.get_or_insert(now);
        // The first tick is at `TICK`.
        self.limit = self.limits.at(now.duration_since(origin).as_secs_f64() + TICK);
    }
}
