//! What is simulated: a backend, what changes about it, and the requests for it.

use crate::{
    backend::Power,
    traffic::{Steps, Work},
};

/// All times are in seconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub length: f64,
    pub power: Steps<Power>,
    /// Arrivals a second, of all levelers together.
    pub rate: Steps<f64>,
    pub work: Steps<Work>,
    pub deadline: f64,
    /// Pauses of everything: every so many seconds, for so long.
    pub pause: Option<(f64, f64)>,
    /// When each of the levelers begins to get requests.
    pub joins: Vec<f64>,
    /// Beyond this many in the backend, a request fails in a millisecond.
    pub fails_beyond: Option<usize>,
    /// When this many are in the backend, it is broken for a while and fails everything.
    pub breaks_at: Option<usize>,
    /// On the way to the backend, and the same on the way back.
    pub distance: f64,
    /// So many callers, each of whom asks again so long after an answer or a refusal, in place of
    /// arrivals at a rate.
    pub callers: Option<(usize, f64)>,
    /// What a call takes longer that needs a new connection. A connection that nothing uses lasts
    /// for ten seconds.
    pub connecting: f64,
}

/// How long a connection lasts that nothing uses.
pub const KEEP_ALIVE: f64 = 10.0;

/// How long the backend is broken.
pub const OUTAGE: f64 = 5.0;

impl Scenario {
    /// 16 servers with a mean service time of 20 ms, at twice their capacity: what others are made
    /// from.
    pub fn base() -> Self {
        Self::of(Power::pool(16.0, 0.02))
    }

    /// Twice the capacity of this backend.
    pub fn of(power: Power) -> Self {
        Self {
            length: 90.0,
            power: Steps::always(power),
            rate: Steps::always(2.0 * power.capacity()),
            work: Steps::always(Work::Exponential),
            deadline: 1.0,
            pause: None,
            joins: vec![0.0],
            fails_beyond: None,
            breaks_at: None,
            distance: 0.0,
            callers: None,
            connecting: 0.0,
        }
    }

    /// What may wait: a fifth of the deadline.
    pub fn max_wait(&self) -> f64 {
        0.2 * self.deadline
    }

    /// Requests a second that the backend can serve, by formula.
    pub fn capacity(&self, at: f64) -> f64 {
        let paused = self.pause.map_or(0.0, |(every, length)| length / every);
        self.power.at(at).capacity() / self.work.at(at).mean() * (1.0 - paused)
    }

    /// The lowest limit with which it serves that many, by formula: the calls in the backend, and
    /// those that are on their way.
    pub fn knee(&self, at: f64) -> f64 {
        self.power.at(at).knee() + 2.0 * self.distance * self.capacity(at)
    }

    /// Requests a second that can be served in a time, by formula.
    pub fn possible(&self, from: f64, to: f64) -> f64 {
        let moments = (0..100).map(|step| from + (f64::from(step) + 0.5) * (to - from) / 100.0);
        moments.map(|at| self.rate.at(at).min(self.capacity(at))).sum::<f64>() / 100.0
    }
}
