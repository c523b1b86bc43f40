//! Negative controls: no scenario is worth anything that one of them passes.

use tokio::time::Instant;
use tower_load_leveling::limit::{Algorithm, Load, Sample};

use sim::random::Random;

/// A limit that goes up and down as chance has it.
#[derive(Debug)]
pub struct RandomWalk {
    limit: f64,
    random: Random,
    ticks: u32,
}

/// After so many ticks, half a second, it takes a step: up or down by so much.
const PACE: u32 = 50;
const STEP: f64 = 1.2;

impl RandomWalk {
    pub fn new(limit: usize, seed: u64) -> Self {
        Self { limit: limit as f64, random: Random::stream(seed, 3), ticks: 0 }
    }
}

impl Algorithm for RandomWalk {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, _: &Sample) {}

    fn on_tick(&mut self, _: Instant, _: &Load) {
        self.ticks += 1;
        if self.ticks % PACE == 0 {
            let up = self.random.uniform() < 0.5;
            let limit = if up { self.limit * STEP } else { self.limit / STEP };
            self.limit = limit.clamp(1.0, 1000.0);
        }
    }
}
