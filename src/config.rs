//! The settings of a builder, and their validation.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    error::BuildError,
    flow_key::FlowKey,
    leveler::{
        admission::bound::MAX_COUNT,
        pace::{POSSIBLE_RATES, Pacing, is_possible},
        settings::Given,
    },
    limit::Algorithm,
    options::{Abandon, Execution, Overflow},
    queue::{MIN_THRESHOLD, Rules},
    settings::{Adaptive, Concurrency, DelayTarget, Rate, Settings},
};

/// The most flows to be watched. More than anybody looks at, and some 10 MB.
const MAX_WATCHED: usize = 65_536;

/// Every setting except the classifiers, which have types of their own.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) enabled: bool,
    pub(crate) name: Arc<str>,
    pub(crate) capacity: usize,
    pub(crate) limit: Option<Limit>,
    pub(crate) overflow: Overflow,
    pub(crate) line: Rules,
    pub(crate) rate: Option<Rate>,
    pub(crate) rate_burst: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) bypass_limit: usize,
    pub(crate) watch_flows: usize,
    pub(crate) abandon: Abandon,
    pub(crate) execution: Execution,
    pub(crate) runtime: Option<runtime::Handle>,
    /// The secrets for flows and cohorts. Random for each leveler if `None`.
    pub(crate) flow_key: Option<FlowKey>,
    pub(crate) cohort_key: Option<FlowKey>,
    /// The hour since 1970 at which the cohorts begin. By the clock if `None`.
    pub(crate) hour: Option<u64>,
    pub(crate) carry_dispatcher: bool,
    /// The error of a setting kept outside this struct.
    pub(crate) error: Option<BuildError>,
}

/// The limit, fixed or found by an algorithm.
pub(crate) enum Limit {
    Fixed(usize),
    /// An algorithm, and the known facts about the algorithm.
    Found(Adaptive, Box<dyn Algorithm>),
    /// An algorithm to be made from its settings.
    Loaded(Adaptive),
}

impl Default for Config {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl From<Settings> for Config {
    fn from(settings: Settings) -> Self {
        let Settings {
            enabled,
            name,
            capacity,
            concurrency,
            max_wait,
            overflow,
            order,
            lifo_after,
            controlled_delay,
            guaranteed_share,
            exact_flows,
            watch_flows,
            bypass_limit,
            flow_limit,
            rate,
            rate_burst,
            abandon,
            execution,
        } = settings;
        let delay = controlled_delay.map(|target| match target {
            DelayTarget::Auto => None,
            DelayTarget::Wait(target) => Some(target),
        });
        let dedicated_queues = exact_flows;
        Self {
            enabled,
            name: name.into(),
            capacity,
            limit: concurrency.map(|concurrency| match concurrency {
                Concurrency::Fixed(limit) => Limit::Fixed(limit),
                Concurrency::Adaptive(adaptive) => Limit::Loaded(adaptive),
            }),
            overflow,
            line: Rules {
                order,
                lifo_after,
                delay,
                guaranteed_share,
                dedicated_queues,
                flow_limit,
            },
            rate,
            rate_burst,
            max_wait,
            bypass_limit,
            watch_flows,
            abandon,
            execution,
            runtime: None,
            flow_key: None,
            cohort_key: None,
            hour: None,
            carry_dispatcher: false,
            error: None,
        }
    }
}

impl Config {
    /// Validates the settings. Returns the settings of the leveler, and the algorithm of an
    /// adaptive limit.
    pub(crate) fn check(self) -> Result<(Given, Option<Box<dyn Algorithm>>), BuildError> {
        let Self {
            enabled,
            name,
            capacity,
            limit,
            overflow,
            line,
            rate,
            rate_burst,
            max_wait,
            bypass_limit,
            watch_flows,
            abandon,
            execution,
            runtime,
            flow_key,
            cohort_key,
            hour,
            carry_dispatcher,
            error,
        } = self;
        if let Some(error) = error {
            return Err(error);
        }
        if capacity > MAX_COUNT {
            return Err(BuildError::new("capacity", capacity, format!("0 to {MAX_COUNT}")));
        }
        let (limit, found) = match limit {
            None => {
                let allowed = "a limit by `concurrency`, or `adaptive_concurrency` to find it";
                return Err(BuildError::new("concurrency", "not set", allowed));
            }
            Some(Limit::Fixed(limit)) if limit == 0 || limit > MAX_COUNT => {
                return Err(BuildError::new("concurrency", limit, format!("1 to {MAX_COUNT}")));
            }
            Some(Limit::Fixed(limit)) => (limit as f64, None),
            Some(Limit::Found(adaptive, algorithm)) => {
                (algorithm.limit(), Some((adaptive, algorithm)))
            }
            Some(Limit::Loaded(adaptive)) => {
                let (adaptive, algorithm) = adaptive.build()?;
                (algorithm.limit(), Some((adaptive, algorithm)))
            }
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
        if let Some(limit) = line.flow_limit.filter(|limit| !is_flow_limit(*limit)) {
            return Err(flow_limit_error("flow_limit", limit));
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
        if watch_flows > MAX_WATCHED {
            return Err(BuildError::new("watch_flows", watch_flows, format!("0 to {MAX_WATCHED}")));
        }
        if rate_burst == 0 {
            return Err(BuildError::new("rate_burst", rate_burst, "1 or more"));
        }
        if let Some(rate) = rate.filter(|rate| !is_possible(*rate)) {
            return Err(BuildError::new("rate", rate, POSSIBLE_RATES));
        }
        let pacing = Pacing { rate, burst: rate_burst };
        if execution == Execution::Caller && abandon == Abandon::Finish {
            let allowed = "`Execution::Spawn` when `abandon` is `Abandon::Finish`: \
                           a call polled by its caller cannot outlive it";
            return Err(BuildError::new("execution", "Execution::Caller", allowed));
        }
        let (adaptive, algorithm) = found.unzip();
        let given = Given {
            name,
            capacity,
            limit,
            adaptive,
            line,
            pacing,
            max_wait,
            bypass_limit,
            watch_flows,
            overflow,
            abandon,
            execution,
            runtime,
            flow_key,
            cohort_key,
            hour,
            switched_off: None,
            carry_dispatcher,
        };
        if enabled { Ok((given, algorithm)) } else { Ok((given.switched_off(MAX_COUNT), None)) }
    }
}

/// Returns whether a limit for flows makes sense.
pub(crate) fn is_flow_limit(limit: usize) -> bool {
    (1..=MAX_COUNT).contains(&limit)
}

/// Returns the error for an impossible limit for flows.
pub(crate) fn flow_limit_error(setting: &'static str, limit: usize) -> BuildError {
    BuildError::new(setting, limit, format!("1 to {MAX_COUNT}"))
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(limit) => f.debug_tuple("Fixed").field(limit).finish(),
            Self::Found(adaptive, _) => f.debug_tuple("Found").field(adaptive).finish(),
            Self::Loaded(adaptive) => f.debug_tuple("Loaded").field(adaptive).finish(),
        }
    }
}
