//! The events of a fleet, by virtual time.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    figures::Figures,
    replica::{Random, Replica, Request},
};
use crate::{
    limit::{
        algorithm::Algorithm,
        sample::{Outcome, Sample},
    },
    rng::mix,
};

/// Replicas with a leveler each, in front of a pool of servers with one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fleet {
    pub(super) servers: usize,
    /// The mean service time without waiting. Service times are exponential.
    pub(super) service: Duration,
    pub(super) replicas: usize,
    /// The time from the start of one replica to the start of the next.
    pub(super) stagger: Duration,
    /// The demand of all replicas together, as a multiple of the servers' capacity.
    pub(super) load: f64,
    /// The time before the measurement begins.
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
}

impl Fleet {
    /// Plays the fleet with an algorithm in each replica.
    pub(super) fn play<A: Algorithm>(&self, seed: u64, algorithm: impl Fn() -> A) -> Figures {
        let mut play = Play::new(*self, seed, algorithm);
        while play.step() {}
        play.figures()
    }
}

#[derive(Debug)]
enum Event {
    Arrival {
        replica: usize,
    },
    /// The spacing of a limit below 1 is over.
    Due {
        replica: usize,
    },
    End {
        call: Call,
    },
}

#[derive(Clone, Copy, Debug)]
struct Call {
    replica: usize,
    request: Request,
    dispatched: Instant,
    in_flight: usize,
    limit_reached: bool,
}

struct Play<A> {
    fleet: Fleet,
    start: Instant,
    now: Instant,
    /// Events by time, and simultaneous events in the order of their making.
    events: BTreeMap<(Instant, u64), Event>,
    made: u64,
    replicas: Vec<Replica<A>>,
    busy: usize,
    line: VecDeque<Call>,
    ended: u64,
    latency: Duration,
}

impl<A: Algorithm> Play<A> {
    fn new(fleet: Fleet, seed: u64, algorithm: impl Fn() -> A) -> Self {
        let start = Instant::now();
        let stream = |replica: usize, use_: u64| Random(mix(mix(seed) + 2 * replica as u64 + use_));
        let replica = |replica| Replica {
            algorithm: algorithm(),
            queue: VecDeque::new(),
            in_flight: 0,
            last: None,
            mean: None,
            arrivals: stream(replica, 0),
            spreads: stream(replica, 1),
            area: 0.0,
            since: start + fleet.warm_up,
        };
        let mut play = Self {
            fleet,
            start,
            now: start,
            events: BTreeMap::new(),
            made: 0,
            replicas: (0..fleet.replicas).map(replica).collect(),
            busy: 0,
            line: VecDeque::new(),
            ended: 0,
            latency: Duration::ZERO,
        };
        for replica in 0..fleet.replicas {
            play.now = start + fleet.stagger * replica as u32;
            play.expect_arrival(replica);
        }
        play
    }

    /// Lets the next thing happen. Returns false at the end.
    fn step(&mut self) -> bool {
        let Some(((now, _), event)) = self.events.pop_first() else { return false };
        if now > self.start + self.fleet.warm_up + self.fleet.measured {
            return false;
        }
        self.now = now;
        match event {
            Event::Arrival { replica } => self.arrive(replica),
            Event::Due { replica } => self.dispatch(replica),
            Event::End { call } => self.end(call),
        }
        true
    }

    fn arrive(&mut self, replica: usize) {
        self.expect_arrival(replica);
        let this = &mut self.replicas[replica];
        let work = self.fleet.service.mul_f64(this.arrivals.exponential());
        this.queue.push_back(Request { arrived: self.now, work });
        self.dispatch(replica);
    }

    fn expect_arrival(&mut self, replica: usize) {
        let Fleet { servers, service, replicas, load, .. } = self.fleet;
        let gap = service.mul_f64(replicas as f64 / (load * servers as f64));
        let gap = gap.mul_f64(self.replicas[replica].arrivals.exponential());
        self.expect(self.now + gap, Event::Arrival { replica });
    }

    fn expect(&mut self, at: Instant, event: Event) {
        self.made += 1;
        self.events.insert((at, self.made), event);
    }

    /// Makes as many calls as the limit of a replica allows.
    fn dispatch(&mut self, replica: usize) {
        loop {
            let now = self.now;
            let this = &mut self.replicas[replica];
            this.expire(now);
            let limit = this.whole_limit();
            if this.queue.is_empty() || this.in_flight >= limit {
                return;
            }
            if let Some(due) = this.due().filter(|due| *due > now) {
                return self.expect(due, Event::Due { replica });
            }
            let Some(request) = this.queue.pop_front() else { return };
            this.in_flight += 1;
            this.last = Some((now, 0.75 + 0.5 * this.spreads.uniform()));
            let in_flight = this.in_flight;
            let limit_reached = in_flight >= limit;
            self.serve(Call { replica, request, dispatched: now, in_flight, limit_reached });
        }
    }

    /// Gives a call to a free server, or to the line.
    fn serve(&mut self, call: Call) {
        if self.busy == self.fleet.servers {
            return self.line.push_back(call);
        }
        self.busy += 1;
        self.expect(self.now + call.request.work, Event::End { call });
    }

    fn end(&mut self, call: Call) {
        let now = self.now;
        self.busy -= 1;
        if let Some(next) = self.line.pop_front() {
            self.serve(next);
        }
        let latency = now - call.dispatched;
        let wait = call.dispatched - call.request.arrived;
        if now > self.start + self.fleet.warm_up {
            self.ended += 1;
            self.latency += latency;
        }

        let this = &mut self.replicas[call.replica];
        this.in_flight -= 1;
        this.expire(now);
        // A mean over some 50 calls, as the leveler keeps.
        let mean = this.mean.get_or_insert(latency.as_secs_f64());
        *mean += (latency.as_secs_f64() - *mean) / 50.0;
        let mut sample = Sample::new(call.dispatched, now, Outcome::Success);
        sample.wait = wait;
        sample.in_flight_at_dispatch = call.in_flight;
        sample.in_flight = this.in_flight;
        sample.limit_reached = call.limit_reached || !this.queue.is_empty();
        this.sum_up(now);
        this.algorithm.on_sample(&sample);
        self.dispatch(call.replica);
    }

    fn figures(mut self) -> Figures {
        let end = self.start + self.fleet.warm_up + self.fleet.measured;
        let measured = self.fleet.measured.as_secs_f64();
        let service = self.fleet.service.as_secs_f64();
        let ended = self.ended as f64;
        let limit = |replica: &mut Replica<A>| {
            replica.sum_up(end);
            replica.area / measured
        };
        Figures {
            goodput: ended / measured / (self.fleet.servers as f64 / service),
            latency: self.latency.as_secs_f64() / ended / service,
            limits: self.replicas.iter_mut().map(limit).collect(),
        }
    }
}
