//! What stands before the backend: the pure parts of the crate, put together as the layer does it.

use std::time::Duration;

use tokio::time::Instant;
use tower_load_leveling::{
    Order,
    limit::{Algorithm, Load, Outcome, Sample},
    simulation::WaitingLine,
};

use crate::engine::TICK;

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

/// Of the waiting line: more than comes in the time that may be waited, in all scenarios but one.
pub const CAPACITY: usize = 2000;

/// What the newest call weighs in the mean service time.
const MEMORY: f64 = 0.02;

/// The waiting line and the limit, without a runtime.
pub struct Model {
    origin: Instant,
    algorithm: Box<dyn Algorithm>,
    line: WaitingLine,
    max_wait: Duration,
    in_flight: usize,
    running: Vec<Option<Running>>,
    calls: Vec<usize>,
    turned_away: Vec<usize>,
    /// For limits below 1: the mean service time in seconds, and when the next call may be made.
    service: f64,
    next_call: f64,
}

#[derive(Clone, Copy)]
struct Running {
    dispatched: Instant,
    in_flight: usize,
    limit_reached: bool,
}

impl Model {
    pub fn new(algorithm: Box<dyn Algorithm>, max_wait: Duration) -> Self {
        Self {
            origin: Instant::now(),
            algorithm,
            line: WaitingLine::new(Order::Fifo),
            max_wait,
            in_flight: 0,
            running: Vec::new(),
            calls: Vec::new(),
            turned_away: Vec::new(),
            service: 0.02,
            next_call: 0.0,
        }
    }

    fn instant(&self, now: f64) -> Instant {
        self.origin + Duration::from_secs_f64(now)
    }

    fn dispatch(&mut self, now: f64) {
        let at = self.instant(now);
        while let Some(late) = self.line.pop_late(at) {
            self.turned_away.push(late);
        }
        loop {
            let limit = self.algorithm.limit();
            let slots = limit.max(1.0) as usize;
            if self.in_flight >= slots || limit < 1.0 && now < self.next_call {
                return;
            }
            let Some(id) = self.line.pop(at) else { return };
            self.in_flight += 1;
            // What a tick came late is made up for.
            self.next_call = self.next_call.max(now - TICK) + self.service / limit;
            if self.running.len() <= id {
                self.running.resize(id + 1, None);
            }
            self.running[id] = Some(Running {
                dispatched: at,
                in_flight: self.in_flight,
                limit_reached: self.in_flight >= slots,
            });
            self.calls.push(id);
        }
    }
}

impl Front for Model {
    fn offer(&mut self, now: f64, id: usize) {
        let at = self.instant(now);
        if self.line.len() < CAPACITY {
            self.line.push(id, at, Some(at + self.max_wait));
        } else {
            self.turned_away.push(id);
        }
        self.dispatch(now);
    }

    fn end(&mut self, now: f64, id: usize, outcome: Outcome) {
        let Some(running) = self.running[id].take() else { return };
        self.in_flight -= 1;
        let mut sample = Sample::new(running.dispatched, self.instant(now), outcome);
        sample.in_flight_at_dispatch = running.in_flight;
        sample.in_flight = self.in_flight;
        sample.limit_reached = running.limit_reached || !self.line.is_empty();
        self.algorithm.on_sample(&sample);
        self.service += MEMORY * (sample.service_time().as_secs_f64() - self.service);
        self.dispatch(now);
    }

    fn tick(&mut self, now: f64) {
        let load = Load::new(self.in_flight, self.line.len());
        self.algorithm.on_tick(self.instant(now), &load);
        self.dispatch(now);
    }

    fn calls(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.calls)
    }

    fn turned_away(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.turned_away)
    }

    fn limit(&self) -> f64 {
        self.algorithm.limit()
    }
}
