//! The event loop: one seed of one scenario, with one algorithm.

use std::{cmp::Reverse, collections::BinaryHeap};

use sim::random::Random;
use tower_load_leveling::limit::Outcome;

use crate::{
    backend::{Backend, Seconds},
    front::Front,
    report::{LOOK, Report},
    scenario::{KEEP_ALIVE, OUTAGE, Scenario},
};

/// What happens at some moment; at the same moment, in the order in which it was planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change,
    Freeze,
    Thaw,
    Arrival(usize),
    Lull(usize),
    Return,
    Reached(usize),
    Answer(usize),
    Failed(usize),
    Tick,
    Look,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    arrived: f64,
    dispatched: f64,
    work: f64,
    leveler: usize,
}

/// How often levelers are told of the time, as by the layer.
pub const TICK: f64 = 0.01;
/// After this long without an arrival the rate is looked at again.
const LULL: f64 = 0.05;
/// What it takes the backend to say no.
const FAST_FAILURE: f64 = 0.001;

pub struct Engine<'a> {
    scenario: &'a Scenario,
    now: f64,
    events: BinaryHeap<Reverse<(Seconds, u64, Event)>>,
    count: u64,
    backend: Backend,
    broken_until: f64,
    /// Since when each of the connections is free that nothing uses.
    connections: Vec<f64>,
    fronts: Vec<Box<dyn Front>>,
    /// By id, and the ids that can be given anew.
    requests: Vec<Request>,
    free: Vec<usize>,
    arrivals: Random,
    work: Random,
    report: Report,
}

/// Runs a scenario with these levelers in front of the backend.
pub fn run(scenario: &Scenario, fronts: Vec<Box<dyn Front>>, seed: u64) -> Report {
    let mut engine = Engine {
        scenario,
        now: 0.0,
        events: BinaryHeap::new(),
        count: 0,
        backend: Backend::new(scenario.power.at(0.0)),
        broken_until: 0.0,
        connections: Vec::new(),
        report: Report::new(scenario, fronts.len()),
        fronts,
        requests: Vec::new(),
        free: Vec::new(),
        arrivals: Random::stream(seed, 1),
        work: Random::stream(seed, 2),
    };
    engine.plan();
    engine.play();
    engine.report
}

impl Engine<'_> {
    fn at(&mut self, time: f64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((Seconds(time), self.count, event)));
    }

    /// All that is known from the beginning.
    fn plan(&mut self) {
        let scenario = self.scenario;
        for (from, _) in &scenario.power.0[1..] {
            self.at(*from, Event::Change);
        }
        if let Some((every, length)) = scenario.pause {
            let times = (1..).map(|n| n as f64 * every).take_while(|at| *at < scenario.length);
            for at in times {
                self.at(at, Event::Freeze);
                self.at(at + length, Event::Thaw);
            }
        }
        if let Some((callers, pause)) = scenario.callers {
            (0..callers).for_each(|_| self.return_after(pause));
        } else {
            for (leveler, from) in scenario.joins.iter().enumerate() {
                self.at(*from, Event::Lull(leveler));
            }
        }
        self.at(TICK, Event::Tick);
        self.at(LOOK, Event::Look);
    }

    fn play(&mut self) {
        loop {
            let planned = self.events.peek().map_or(f64::INFINITY, |Reverse((at, ..))| at.0);
            let done = self.backend.next().unwrap_or(f64::INFINITY);
            self.now = planned.min(done).max(self.now);
            if self.now > self.scenario.length {
                return;
            }
            if done < planned {
                if let Some(id) = self.backend.finish(self.now) {
                    self.at(self.now + self.scenario.distance, Event::Answer(id));
                }
            } else if let Some(Reverse((_, _, event))) = self.events.pop() {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Change => self.backend.set_power(now, self.scenario.power.at(now)),
            Event::Freeze => self.backend.freeze(now, true),
            Event::Thaw => self.backend.freeze(now, false),
            Event::Arrival(leveler) => self.arrive(leveler),
            Event::Lull(leveler) => self.await_next(leveler),
            Event::Return => self.offer(0),
            Event::Reached(id) => self.reach(id),
            Event::Answer(id) => self.answer(id, None),
            Event::Failed(id) => self.answer(id, Some(Outcome::Ignore)),
            Event::Tick => {
                for leveler in 0..self.fronts.len() {
                    if now >= self.scenario.joins[leveler] {
                        self.fronts[leveler].tick(now);
                        self.send(leveler);
                    }
                }
                self.at(now + TICK, Event::Tick);
            }
            Event::Look => {
                self.report.look(self.fronts.iter().map(|front| front.limit()));
                self.at(now + LOOK, Event::Look);
            }
        }
    }

    /// Plans the next arrival. Where that is a while off, the rate may change before: then looks
    /// again, which a process without memory allows.
    fn await_next(&mut self, leveler: usize) {
        let rate = self.scenario.rate.at(self.now) / self.fronts.len() as f64;
        let gap = -self.arrivals.uniform().ln() / rate;
        let event = if gap > LULL { Event::Lull(leveler) } else { Event::Arrival(leveler) };
        self.at(self.now + gap.min(LULL), event);
    }

    fn arrive(&mut self, leveler: usize) {
        self.await_next(leveler);
        self.offer(leveler);
    }

    /// Lets a caller come back.
    fn return_after(&mut self, pause: f64) {
        let pause = -self.arrivals.uniform().ln() * pause;
        self.at(self.now + pause, Event::Return);
    }

    fn offer(&mut self, leveler: usize) {
        let now = self.now;
        let work = self.scenario.work.at(now).draw(&mut self.work);
        let id = self.remember(Request { arrived: now, dispatched: now, work, leveler });
        self.report.arrived(now);
        self.fronts[leveler].offer(now, id);
        self.send(leveler);
    }

    fn remember(&mut self, request: Request) -> usize {
        if let Some(id) = self.free.pop() {
            self.requests[id] = request;
            return id;
        }
        self.requests.push(request);
        self.requests.len() - 1
    }

    /// Carries what a leveler has dispatched to the backend, and forgets what it has turned away.
    fn send(&mut self, leveler: usize) {
        let mut turned_away = self.fronts[leveler].turned_away();
        if let Some((_, pause)) = self.scenario.callers {
            turned_away.iter().for_each(|_| self.return_after(pause));
        }
        self.free.append(&mut turned_away);
        for id in self.fronts[leveler].calls() {
            self.requests[id].dispatched = self.now;
            if self.scenario.distance > 0.0 {
                self.at(self.now + self.scenario.distance, Event::Reached(id));
            } else {
                self.reach(id);
            }
        }
    }

    fn reach(&mut self, id: usize) {
        let now = self.now;
        if self.scenario.breaks_at.is_some_and(|at| self.backend.len() >= at) {
            self.broken_until = now + OUTAGE;
        }
        let full = self.scenario.fails_beyond.is_some_and(|at| self.backend.len() >= at);
        if full || now < self.broken_until {
            self.at(now + FAST_FAILURE, Event::Failed(id));
        } else {
            let work = self.requests[id].work + self.connect();
            self.backend.begin(now, id, work);
        }
    }

    /// Returns the work of making a connection, unless there is a free one.
    fn connect(&mut self) -> f64 {
        let free_since = self.connections.pop();
        let is_open = free_since.is_some_and(|since| self.now - since < KEEP_ALIVE);
        if is_open {
            0.0
        } else {
            self.scenario.connecting / self.scenario.power.at(self.now).service
        }
    }

    fn answer(&mut self, id: usize, failure: Option<Outcome>) {
        let now = self.now;
        let Request { arrived, dispatched, leveler, .. } = self.requests[id];
        let in_time = now - arrived <= self.scenario.deadline;
        if failure.is_none() {
            self.report.answered(now, arrived, dispatched, in_time);
        }
        let outcome = failure.unwrap_or(if in_time { Outcome::Success } else { Outcome::Overload });
        self.connections.push(now);
        if let Some((_, pause)) = self.scenario.callers {
            self.return_after(pause);
        }
        self.fronts[leveler].end(now, id, outcome);
        self.free.push(id);
        self.send(leveler);
    }
}
