//! Settings as a value: from a file, into a builder, out of a handle.
//!
//! [`Settings`] has every setting with a number or a word as its value.
//! [`Builder::settings`](crate::Builder::settings) takes settings,
//! [`Handle::settings`](crate::Handle::settings) returns the settings in force, and
//! [`Handle::apply`](crate::Handle::apply) changes a running leveler. Classifiers, the runtime and
//! an algorithm of your own are code, and are set on the builder.
//!
//! With the feature `serde`, `Settings` and all types in it can be read from a file and written to
//! a file. `examples/config.rs` reads TOML, and again whenever the file changes:
//!
//! ```toml
//! enabled = true               # false: calls pass straight through
//! name = "orders"
//! capacity = 1024
//! concurrency = 64             # or "bdp", or a table as below
//! max_wait = "500ms"
//! order = "adaptive_lifo"      # fifo, lifo, adaptive_lifo
//! overflow = "reject"          # reject, wait, evict_oldest
//! rate = { requests = 100, per = "1s" }
//! rate_burst = 5
//!
//! # [concurrency]
//! # algorithm = "latency_target"  # bdp, latency_target, aimd, gradient, vegas
//! # target = "30ms"
//! # max = 500
//! ```
//!
//! - Keys are the names of the fields below. A missing key has the default; only `concurrency` has
//!   none. An unknown key is an error with the name of the key, also within a table. (Under
//!   `#[serde(flatten)]` serde looks for no unknown keys: give the settings a table of their own.)
//! - A duration is a string of numbers with units, the largest unit first: `"250ms"`, `"1.5s"`,
//!   `"1m 30s"`. Units are `ns`, `us` (or `µs`), `ms`, `s`, `m` (or `min`), `h` and `d`. A duration
//!   written and read again is the same to the nanosecond.
//! - An impossible value of the right type, such as a capacity above the maximum, is a
//!   [`BuildError`](crate::error::BuildError) of [`build`](crate::Builder::build) or `apply`.

mod adaptive;
mod concurrency;
mod delay_target;
#[cfg(feature = "serde")]
mod duration;

use std::{fmt, time::Duration};

pub use self::{
    adaptive::{Adaptive, AlgorithmName},
    concurrency::Concurrency,
    delay_target::DelayTarget,
};
use crate::options::{Abandon, Execution, Order, Overflow};

/// The settings of a leveler with numbers and words as values. The [module](self) shows a file.
///
/// Each field is a setting of the [`Builder`](crate::Builder) of the same name, with the same
/// default. Later releases may add fields: make a value by [`Default`] and set the fields.
///
/// ```
/// use std::{fmt, time::Duration};
/// use tower_load_leveling::{LoadLevelLayer, settings::Settings};
///
/// let mut settings = Settings::default();
/// settings.concurrency = Some(64.into());
/// settings.max_wait = Some(Duration::from_millis(500));
/// let layer = LoadLevelLayer::builder().settings(settings.clone()).build()?;
/// assert_eq!(layer.handle().settings(), settings);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Settings {
    /// The switch: with `false` calls pass straight through, see
    /// [`Builder::enabled`](crate::Builder::enabled). Default is `true`.
    pub enabled: bool,
    /// The name of the leveler in spans, events and metrics: see
    /// [`Builder::name`](crate::Builder::name). Default is `default`.
    pub name: String,
    /// The number of requests that may wait, in addition to the limit: see
    /// [`Builder::capacity`](crate::Builder::capacity). Default is 1024.
    pub capacity: usize,
    /// The limit, or the algorithm to find the limit: see
    /// [`Builder::concurrency`](crate::Builder::concurrency) and
    /// [`Builder::adaptive`](crate::Builder::adaptive). Required: `None` is an error of `build`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub concurrency: Option<Concurrency>,
    /// The longest wait of a request: see [`Builder::max_wait`](crate::Builder::max_wait). Default
    /// is no wait limit.
    #[cfg_attr(
        feature = "serde",
        serde(with = "duration::option", skip_serializing_if = "Option::is_none")
    )]
    pub max_wait: Option<Duration>,
    /// The handling of a new request if no place is free: see
    /// [`Builder::overflow`](crate::Builder::overflow). Default is `reject`.
    pub overflow: Overflow,
    /// The order in which requests leave the queue: see
    /// [`Builder::order`](crate::Builder::order). Default is `fifo`.
    pub order: Order,
    /// The age at which `adaptive_lifo` switches to newest first: see
    /// [`Builder::lifo_after`](crate::Builder::lifo_after). Default is to follow the service time.
    #[cfg_attr(
        feature = "serde",
        serde(with = "duration::option", skip_serializing_if = "Option::is_none")
    )]
    pub lifo_after: Option<Duration>,
    /// The target of a short queue: see
    /// [`Builder::controlled_delay`](crate::Builder::controlled_delay). Default is no controlled
    /// delay.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub controlled_delay: Option<DelayTarget>,
    /// The share of the inner's time for each priority, from 0 to 0.25: see
    /// [`Builder::guaranteed_share`](crate::Builder::guaranteed_share). Default is 0.05.
    pub guaranteed_share: f64,
    /// The number of queued flows with exact shares, in each priority: see
    /// [`Builder::exact_flows`](crate::Builder::exact_flows). Default is 1024.
    pub exact_flows: usize,
    /// The number of busiest flows to watch: see
    /// [`Builder::watch_flows`](crate::Builder::watch_flows). Default is 0.
    pub watch_flows: usize,
    /// The most requests to bypass the queue at once: see
    /// [`Builder::bypass_limit`](crate::Builder::bypass_limit). Default is 8.
    pub bypass_limit: usize,
    /// The most slots of each flow: see [`Builder::flow_limit`](crate::Builder::flow_limit).
    /// Default is no limit for flows.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub flow_limit: Option<usize>,
    /// The rate of dispatches: see [`Builder::rate`](crate::Builder::rate). Default is no rate.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub rate: Option<Rate>,
    /// The most requests to dispatch at once after a time of unused rate: see
    /// [`Builder::rate_burst`](crate::Builder::rate_burst). Default is 1.
    pub rate_burst: u32,
    /// The handling of a call if its caller drops the future: see
    /// [`Builder::abandon`](crate::Builder::abandon). Default is `cancel`.
    pub abandon: Abandon,
    /// The side to poll the inner's futures: see [`Builder::execution`](crate::Builder::execution).
    /// Default is `spawn`.
    pub execution: Execution,
}

/// A rate of dispatches: a number of requests within a time, evenly spaced.
///
/// In a file a table: `rate = { requests = 100, per = "1s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Rate {
    /// The number of requests, 1 or more.
    pub requests: u32,
    /// The time for this number of requests, from 1 ns to 100 years.
    #[cfg_attr(feature = "serde", serde(with = "duration"))]
    pub per: Duration,
}

impl Rate {
    /// Returns a rate of `requests` within `per`.
    #[must_use]
    pub fn new(requests: u32, per: Duration) -> Self {
        Self { requests, per }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, per } = self;
        write!(f, "{requests} per {per:?}")
    }
}

/// The default capacity, in requests. A burst of this size waits instead of being refused. At 1 ms
/// a call and a limit of 16 the last request waits 64 ms. A round number, small beside the memory
/// of a server; size the capacity for your own load.
const DEFAULT_CAPACITY: usize = 1024;

/// The default bypass limit, in requests. Enough for the probes of an orchestrator and an operator
/// looking in, and too few for a flood of probes to hurt.
const DEFAULT_BYPASS_LIMIT: usize = 8;

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            name: "default".to_owned(),
            capacity: DEFAULT_CAPACITY,
            concurrency: None,
            max_wait: None,
            overflow: Overflow::default(),
            order: Order::default(),
            lifo_after: None,
            controlled_delay: None,
            guaranteed_share: 0.05,
            exact_flows: 1024,
            watch_flows: 0,
            bypass_limit: DEFAULT_BYPASS_LIMIT,
            flow_limit: None,
            rate: None,
            rate_burst: 1,
            abandon: Abandon::default(),
            execution: Execution::default(),
        }
    }
}
