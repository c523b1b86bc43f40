//! The settings of a builder, and the validation of them.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    error::BuildError,
    leveler::{admission::bound::MAX_COUNT, pace::Rate, settings::Settings},
    limit::Algorithm,
    options::{Abandon, Execution, Overflow},
    queue::{MIN_THRESHOLD, Rules},
};

/// Every setting except the classifiers, which have types of their own.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    pub(crate) limit: Option<Limit>,
    pub(crate) overflow: Overflow,
    pub(crate) line: Rules,
    pub(crate) rate: Option<(u32, Duration)>,
    pub(crate) rate_burst: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
    /// The error of a setting kept outside this struct.
    pub(crate) error: Option<BuildError>,
}

/// The limit, fixed or found by an algorithm.
pub(crate) enum Limit {
    Fixed(usize),
    Found(Box<dyn Algorithm>),
}

/// The default capacity, in requests. A burst of this size waits instead of being refused. At 1 ms
/// a call and a limit of 16 the last request waits 64 ms. A round number, small beside the memory
/// of a server; size the capacity for your own load.
const DEFAULT_CAPACITY: usize = 1024;

/// The default bypass limit, in requests. Enough for the probes of an orchestrator and an operator
/// looking in, and too few for a flood of probes to hurt.
const DEFAULT_BYPASS_LIMIT: usize = 8;

impl Default for Config {
    fn default() -> Self {
        Self {
            name: Arc::from("default"),
            capacity: DEFAULT_CAPACITY,
            limit: None,
            overflow: Overflow::default(),
            line: Rules::default(),
            rate: None,
            rate_burst: 1,
            max_wait: None,
            bypass_limit: DEFAULT_BYPASS_LIMIT,
            abandon: Abandon::default(),
            execution: Execution::default(),
            runtime: None,
            error: None,
        }
    }
}

impl Config {
    /// Validates the settings. Returns the settings of the leveler, and the algorithm of an
    /// adaptive limit.
    pub(crate) fn check(self) -> Result<(Settings, Option<Box<dyn Algorithm>>), BuildError> {
        let Self {
            name,
            capacity,
            limit,
            overflow,
            line,
            rate,
            rate_burst,
            max_wait,
            bypass_limit,
            abandon,
            execution,
            runtime,
            error,
        } = self;
        if let Some(error) = error {
            return Err(error);
        }
        if capacity > MAX_COUNT {
            return Err(BuildError::new("capacity", capacity, format!("0 to {MAX_COUNT}")));
        }
        let (limit, algorithm) = match limit {
            None => {
                let allowed = "a limit by `concurrency`, or `adaptive_concurrency` to find it";
                return Err(BuildError::new("concurrency", "not set", allowed));
            }
            Some(Limit::Fixed(limit)) if limit == 0 || limit > MAX_COUNT => {
                return Err(BuildError::new("concurrency", limit, format!("1 to {MAX_COUNT}")));
            }
            Some(Limit::Fixed(limit)) => (limit as f64, None),
            Some(Limit::Found(algorithm)) => (algorithm.limit(), Some(algorithm)),
        };
        if max_wait.is_some_and(|wait| wait.is_zero()) {
            let allowed = "more than zero (for no waiting at all, set `capacity` to 0)";
            return Err(BuildError::new("max_wait", "0ns", allowed));
        }
        if !(0.0..=0.25).contains(&line.guaranteed_share) {
            return Err(BuildError::new("guaranteed_share", line.guaranteed_share, "0 to 0.25"));
        }
        if line.dedicated_queues == 0 || line.dedicated_queues > MAX_COUNT {
            return Err(BuildError::new(
                "exact_flows",
                line.dedicated_queues,
                format!("1 to {MAX_COUNT}"),
            ));
        }
        if let Some(age) = line.lifo_after.filter(|age| *age < MIN_THRESHOLD) {
            let allowed = "1 ms or more (for always the newest first, set `Order::Lifo`)";
            return Err(BuildError::new("lifo_after", format!("{age:?}"), allowed));
        }
        if line.delay.flatten().is_some_and(|target| target.is_zero()) {
            return Err(BuildError::new("controlled_delay", "0ns", "more than zero, or `None`"));
        }
        if bypass_limit > MAX_COUNT {
            return Err(BuildError::new("bypass_limit", bypass_limit, format!("0 to {MAX_COUNT}")));
        }
        if rate_burst == 0 {
            return Err(BuildError::new("rate_burst", rate_burst, "1 or more"));
        }
        let rate = match rate {
            None => None,
            Some((requests, per)) => {
                Some(Rate::new(requests, per, rate_burst).ok_or_else(|| {
                    let value = format!("{requests} per {per:?}");
                    BuildError::new("rate", value, "1 or more requests per 1 ns to 100 years")
                })?)
            }
        };
        if execution == Execution::Caller && abandon == Abandon::Finish {
            let allowed = "`Execution::Spawn` when `abandon` is `Abandon::Finish`: \
                           a call polled by its caller cannot outlive it";
            return Err(BuildError::new("execution", "Execution::Caller", allowed));
        }
        let settings = Settings {
            name,
            capacity,
            limit,
            line,
            rate,
            rate_burst,
            max_wait,
            bypass_limit,
            overflow,
            abandon,
            execution,
            runtime,
        };
        Ok((settings, algorithm))
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(limit) => f.debug_tuple("Fixed").field(limit).finish(),
            Self::Found(algorithm) => f.debug_tuple("Found").field(&algorithm.limit()).finish(),
        }
    }
}
