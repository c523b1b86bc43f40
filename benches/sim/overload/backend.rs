//! What is behind the leveler: servers, and how fast they are with so much to do at once.
//!
//! Work is measured in multiples of the mean service time. All requests that are being served
//! progress at one speed, so it is enough to keep how much work one of them would have got done by
//! now, and when by that clock each is to end.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

/// A moment or a time, in seconds; or an amount of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(pub f64);

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// How throughput depends on what is in the backend at once.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// So many servers, and a queue for the rest.
    Pool { servers: f64 },
    /// The same, and all servers are slower by a factor while more than so many are there: memory
    /// that is swapped, locks that are fought over.
    Cliff { servers: f64, at: f64, factor: f64 },
    /// So many cores, shared evenly by all that is there.
    Shared { cores: f64 },
    /// The universal scalability law of Gunther: contention and, growing with the square,
    /// crosstalk.
    Contention { sigma: f64, kappa: f64 },
    /// Takes up to so many at once, and the next when all of these are done.
    Batches { size: f64 },
    /// Begins no more than so many a second (a token bucket that holds a tenth of a second's), and
    /// lets others wait.
    Bucket { rate: f64 },
}

/// A backend as it is from some moment on.
#[derive(Clone, Copy, Debug)]
pub struct Power {
    pub shape: Shape,
    /// Mean service time of a request that is alone, in seconds.
    pub service: f64,
}

impl Power {
    pub fn pool(servers: f64, service: f64) -> Self {
        Self { shape: Shape::Pool { servers }, service }
    }

    /// The concurrency at which throughput is highest, and no more than is needed for that.
    pub fn knee(&self) -> f64 {
        match self.shape {
            Shape::Pool { servers } | Shape::Cliff { servers, .. } => servers,
            Shape::Shared { cores } => cores,
            // The one that takes the place of the last is too late for the next batch.
            Shape::Batches { size } => size + 1.0,
            Shape::Bucket { rate } => (rate * self.service).ceil(),
            Shape::Contention { sigma, kappa } => ((1.0 - sigma) / kappa).sqrt().floor(),
        }
    }

    /// Requests a second at the knee.
    pub fn capacity(&self) -> f64 {
        match self.shape {
            Shape::Batches { size } => size / self.service,
            Shape::Bucket { rate } => rate,
            _ => self.knee() * self.speed(self.knee()),
        }
    }

    /// How fast each gets its work done that is served while `n` are there, in mean requests a
    /// second.
    fn speed(&self, n: f64) -> f64 {
        let share = match self.shape {
            Shape::Cliff { at, factor, .. } if n > at => factor,
            // As many as there are servers are served, and others wait.
            Shape::Pool { .. } | Shape::Cliff { .. } => 1.0,
            Shape::Batches { .. } | Shape::Bucket { .. } => 1.0,
            Shape::Shared { cores } => (cores / n).min(1.0),
            Shape::Contention { sigma, kappa } => {
                1.0 / (1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0))
            }
        };
        share / self.service
    }
}

/// The backend at work.
#[derive(Debug)]
pub struct Backend {
    power: Power,
    frozen: bool,
    /// How much a request that is being served has got done since the beginning.
    progress: f64,
    updated: f64,
    served: BinaryHeap<Reverse<(Seconds, usize)>>,
    waiting: VecDeque<(usize, f64)>,
    /// Of a bucket, when last looked at.
    tokens: f64,
    refilled: f64,
}

impl Backend {
    pub fn new(power: Power) -> Self {
        Self {
            power,
            frozen: false,
            progress: 0.0,
            updated: 0.0,
            served: BinaryHeap::new(),
            waiting: VecDeque::new(),
            tokens: 0.0,
            refilled: 0.0,
        }
    }

    pub fn len(&self) -> usize {
        self.served.len() + self.waiting.len()
    }

    /// Takes in a request.
    pub fn begin(&mut self, now: f64, id: usize, work: f64) {
        self.advance(now);
        self.waiting.push_back((id, work));
        self.serve();
    }

    /// The next to be done, and when, unless something changes before.
    pub fn next(&self) -> Option<f64> {
        match (self.next_end(), self.next_token()) {
            (Some(end), Some(token)) => Some(end.min(token)),
            (end, token) => end.or(token),
        }
    }

    fn next_end(&self) -> Option<f64> {
        let Reverse((end, _)) = self.served.peek()?;
        let speed = self.speed();
        (speed > 0.0).then(|| self.updated + (end.0 - self.progress).max(0.0) / speed)
    }

    /// When the first of those that wait can begin, if they wait for a token.
    fn next_token(&self) -> Option<f64> {
        let Shape::Bucket { rate } = self.power.shape else { return None };
        (!self.waiting.is_empty()).then(|| self.refilled + (1.0 - self.tokens).max(0.0) / rate)
    }

    /// Ends the request that is done now, if that is what happens next.
    pub fn finish(&mut self, now: f64) -> Option<usize> {
        let is_token = self.next_end().is_none_or(|end| end > now);
        self.advance(now);
        if is_token {
            self.serve();
            return None;
        }
        let Reverse((_, id)) = self.served.pop()?;
        self.serve();
        Some(id)
    }

    pub fn set_power(&mut self, now: f64, power: Power) {
        self.advance(now);
        self.power = power;
        self.serve();
    }

    /// A pause of everything, as by a garbage collector.
    pub fn freeze(&mut self, now: f64, frozen: bool) {
        self.advance(now);
        self.frozen = frozen;
    }

    fn speed(&self) -> f64 {
        if self.frozen { 0.0 } else { self.power.speed(self.len() as f64) }
    }

    fn advance(&mut self, now: f64) {
        self.progress += self.speed() * (now - self.updated);
        self.updated = now;
    }

    fn serve(&mut self) {
        let places = match self.power.shape {
            Shape::Batches { size } if self.served.is_empty() => size as usize,
            Shape::Batches { .. } => 0,
            Shape::Bucket { rate } => return self.serve_by_tokens(rate),
            Shape::Pool { servers } | Shape::Cliff { servers, .. } => servers as usize,
            _ => usize::MAX,
        };
        while self.served.len() < places {
            let Some((id, work)) = self.waiting.pop_front() else { return };
            self.served.push(Reverse((Seconds(self.progress + work), id)));
        }
    }

    fn serve_by_tokens(&mut self, rate: f64) {
        let refill = rate * (self.updated - self.refilled);
        self.tokens = (self.tokens + refill).min(0.1 * rate);
        self.refilled = self.updated;
        // What a token that is due lacks is rounding.
        while self.tokens > 1.0 - 1e-9 {
            let Some((id, work)) = self.waiting.pop_front() else { return };
            self.tokens -= 1.0;
            self.served.push(Reverse((Seconds(self.progress + work), id)));
        }
    }
}
