//! Who calls, how often, with what, and how patient they are.

use std::time::Duration;

use tower_load_leveling::Priority;

/// Callers that are alike: a Poisson stream of requests.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: &'static str,
    /// Requests a second.
    pub rate: f64,
    /// Mean of the exponential service time.
    pub work: Duration,
    pub priority: Priority,
    pub flow: Flow,
    /// The weight of the flow.
    pub weight: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Flow {
    /// The requests say nothing of it.
    None,
    /// All are of this one.
    One(u64),
    /// Each is of one of so many, drawn for it.
    AnyOf(u64),
}

/// When callers give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub deadline: Duration,
    /// Whether the layer is told the deadline.
    pub is_known: bool,
    /// Whether a caller that gives up drops its call; or else an answer comes that nobody reads.
    pub drops: bool,
    /// How often a caller tries again, some 50 ms after it was rejected or gave up.
    pub retries: u32,
}

impl Patience {
    pub fn of(deadline: Duration) -> Self {
        Self { deadline, is_known: true, drops: true, retries: 0 }
    }
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub sources: Vec<Source>,
    pub patience: Patience,
    /// How many servers the backend has, from when on.
    pub servers: Vec<(Duration, usize)>,
    /// Not counted, at the beginning.
    pub warm_up: Duration,
    pub length: Duration,
}

pub const SERVERS: usize = 16;
pub const WORK: Duration = Duration::from_millis(20);
/// What the servers can do in a second.
pub const CAPACITY: f64 = 800.0;

impl Source {
    /// Requests like all others, at so many times the capacity.
    pub fn load(load: f64) -> Self {
        let (priority, flow) = (Priority::Normal, Flow::None);
        Self { name: "all", rate: load * CAPACITY, work: WORK, priority, flow, weight: 1 }
    }

    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub fn flow(self, flow: Flow) -> Self {
        Self { flow, ..self }
    }

    pub fn weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// Another service time, at the same load.
    pub fn work(self, work: Duration) -> Self {
        let rate = self.rate * self.work.as_secs_f64() / work.as_secs_f64();
        Self { rate, work, ..self }
    }
}

impl Scenario {
    pub fn steady(sources: Vec<Source>, patience: Patience, length: Duration) -> Self {
        let warm_up = Duration::from_secs(2);
        Self { sources, patience, servers: vec![(Duration::ZERO, SERVERS)], warm_up, length }
    }
}
