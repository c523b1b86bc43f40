//! What stands before the backend: the crate's own model of the layer.

use std::{mem, time::Duration};

use tokio::time::Instant;
use tower_load_leveling::{
    Class,
    limit::{Algorithm, Load, Outcome, Sample},
    model::Model,
};

/// A leveler to be simulated.
pub trait Front {
    /// A request arrives.
    fn offer(&mut self, now: f64, id: usize);
    /// A call has ended.
    fn end(&mut self, now: f64, id: usize, outcome: Outcome);
    /// Time passes.
    fn tick(&mut self, now: f64);
    /// The calls that were made since.
    fn calls(&mut self) -> Vec<usize>;
    /// The requests that have been refused, or were late, since.
    fn turned_away(&mut self) -> Vec<usize>;
    fn limit(&self) -> f64;
}

/// Of the queue: more than comes in the time that may be waited, in all scenarios but one.
pub const CAPACITY: usize = 2000;

/// The mean service time that is assumed until calls have finished: that of most scenarios.
const SERVICE_TIME: Duration = Duration::from_millis(20);

/// The crate's own model: the layer without a runtime.
pub struct Modelled {
    origin: Instant,
    model: Model,
    calls: Vec<usize>,
    turned_away: Vec<usize>,
}

impl Modelled {
    pub fn new(algorithm: Box<dyn Algorithm>, max_wait: Duration) -> Self {
        let model = Model::new(usize::MAX, Boxed(algorithm));
        Self {
            origin: Instant::now(),
            model: model.max_wait(max_wait).service_time(SERVICE_TIME),
            calls: Vec::new(),
            turned_away: Vec::new(),
        }
    }

    fn instant(&self, now: f64) -> Instant {
        self.origin + Duration::from_secs_f64(now)
    }

    /// Takes from the model what follows from the last event.
    fn follow(&mut self, at: Instant) {
        while let Some((id, _)) = self.model.remove(at) {
            self.turned_away.push(id as usize);
        }
        while let Some(id) = self.model.start(at) {
            self.calls.push(id as usize);
        }
    }
}

impl Front for Modelled {
    fn offer(&mut self, now: f64, id: usize) {
        let at = self.instant(now);
        // The layer bounds what waits and runs together. The figures in the documentation are of
        // this bound, which comes to the same except in A1b, while more calls run than a lowered
        // limit lets.
        let is_full = self.model.queued() >= CAPACITY;
        if is_full || self.model.arrive(id as u64, &Class::new(), at).is_err() {
            self.turned_away.push(id);
        }
        self.follow(at);
    }

    fn end(&mut self, now: f64, id: usize, outcome: Outcome) {
        let at = self.instant(now);
        self.model.finish(id as u64, at, outcome);
        self.follow(at);
    }

    fn tick(&mut self, now: f64) {
        let at = self.instant(now);
        self.model.tick(at);
        self.follow(at);
    }

    fn calls(&mut self) -> Vec<usize> {
        mem::take(&mut self.calls)
    }

    fn turned_away(&mut self) -> Vec<usize> {
        mem::take(&mut self.turned_away)
    }

    fn limit(&self) -> f64 {
        self.model.limit()
    }
}

/// An algorithm in a box, which is what the contestants have in common.
pub struct Boxed(pub Box<dyn Algorithm>);

impl Algorithm for Boxed {
    fn limit(&self) -> f64 {
        self.0.limit()
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.0.on_sample(sample);
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        self.0.on_tick(now, load);
    }
}
