//! The builder: every setting, the default and the reason for the default.

mod classifiers;

use std::{any::Any, fmt, hash::Hash, sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    by_result::ByResult,
    classify::{Opaque, Unclassified},
    config::{Config, Limit},
    error::BuildError,
    flow_key::FlowKey,
    layer::LoadLevelLayer,
    leveler::front::Leveler,
    limit::{Algorithm, Bdp, Fixed},
    options::{Abandon, Execution, Order, Overflow},
    respond::{CompleteOnResponse, Responder},
    settings::{Adaptive, Rate, Settings},
};

/// Builds a [`LoadLevelLayer`]. Made by [`LoadLevelLayer::builder`].
///
/// ```
/// use std::time::Duration;
/// use tower_load_leveling::{LoadLevelLayer, Overflow};
///
/// let layer = LoadLevelLayer::builder()
///     .name("orders")
///     .capacity(1024)
///     .concurrency(64)
///     .overflow(Overflow::Reject)
///     .max_wait(Duration::from_millis(500))
///     .build()?;
/// # drop(layer);
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<Q = Unclassified, R = ByResult, H = CompleteOnResponse> {
    pub(crate) config: Config,
    /// No field is named like a setter: if a user called the setter twice, rustc would say "field,
    /// not a method".
    pub(crate) requests: Q,
    pub(crate) responder: Responder<R, H>,
}

impl LoadLevelLayer {
    /// Makes a layer with room for `capacity` waiting requests and a fixed limit of `limit` running
    /// requests. All other settings have the defaults of the [`Builder`].
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or either value is above 536 869 887 (2²⁹ − 1025). For values from
    /// configuration use the [`builder`](Self::builder), which returns an error.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize, limit: usize) -> Self {
        match Self::builder().capacity(capacity).concurrency(limit).build() {
            Ok(layer) => layer,
            Err(error) => panic!("`LoadLevelLayer::new` cannot make this layer: {error}"),
        }
    }

    /// Returns a builder with every setting at the default.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        let config = Config::default();
        let responder = Responder { classifier: ByResult::new(), completion: CompleteOnResponse };
        Self { config, requests: Unclassified::new(), responder }
    }
}

impl<Q, R, H> Builder<Q, R, H> {
    /// Sets whether the leveler does anything. With `false` calls pass straight through, and all
    /// types stay the same: a switch for the configuration.
    ///
    /// A switched-off leveler limits, refuses and classifies nothing, and holds no slot for a body.
    /// Calls run in their callers, as with [`Execution::Caller`], and wait only for an unready
    /// inner. The stats count calls, and show the maximum as limit and capacity.
    /// [`Handle::close`](crate::Handle::close) and [`drain`](crate::Handle::drain) work, for a
    /// shutdown. `pause`, `apply` and the setters of the handle change nothing.
    ///
    /// The other settings must be valid all the same. Default is `true`.
    ///
    /// ```
    /// use tower_load_leveling::LoadLevelLayer;
    ///
    /// let is_on = std::env::var("LEVELING").map_or(true, |value| value != "off");
    /// let layer = LoadLevelLayer::builder().concurrency(64).enabled(is_on).build()?;
    /// # drop(layer);
    /// # Ok::<(), tower_load_leveling::error::BuildError>(())
    /// ```
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.config.enabled = enabled;
        self
    }

    /// Sets the name of the leveler in spans, events and metrics: name the leveler after the
    /// protected service. Default is `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into().into();
        self
    }

    /// Sets how many requests may wait, in addition to the limit. With 0 a request runs at once or
    /// is refused; if the inner is not ready yet, the request waits for the inner in the place that
    /// comes with a slot. A request counts as its [cost](crate::Class::cost).
    ///
    /// Size the capacity by time: at least (arrival rate − drain rate) × length of the longest
    /// burst, at most drain rate × the longest wait still worth it. Default is `1024`.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.config.capacity = capacity;
        self
    }

    /// Sets a fixed limit: how many calls may run in the inner at once.
    ///
    /// Size the limit by the inner's resources: connections of a pool, writers of a database, cores
    /// for CPU-bound work. If the right limit is unknown or changes, use
    /// [`adaptive_concurrency`](Self::adaptive_concurrency). There is no default, since no number
    /// is right for every backend: one of the two is required.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.config.limit = Some(Limit::Fixed(limit));
        self
    }

    /// Finds the limit at run time: how many calls the inner can run at once without slowing down.
    ///
    /// Short for `.adaptive(limit::Bdp::new())`. [`limit::Bdp`](crate::limit::Bdp) describes the
    /// algorithm and its bounds, and [`limit`](crate::limit) compares algorithms. The capacity
    /// stays as set: bursts wait whatever the limit. There is no default: this method or
    /// [`concurrency`](Self::concurrency) is required.
    pub fn adaptive_concurrency(self) -> Self {
        self.adaptive(Bdp::new())
    }

    /// Sets the algorithm of the limit, from [`limit`](crate::limit) or your own.
    ///
    /// [`Stats::limit`](crate::stats::Stats::limit) shows the limit in force, and
    /// [`Handle::set_limit`](crate::Handle::set_limit) overrides the algorithm for good. Needs a
    /// runtime with timers enabled, to tell the algorithm the time. There is no default:
    /// [`adaptive_concurrency`](Self::adaptive_concurrency) chooses an algorithm.
    pub fn adaptive(mut self, algorithm: impl Algorithm) -> Self {
        let fixed = (&algorithm as &dyn Any).downcast_ref::<Fixed>();
        self.config.limit = Some(match fixed {
            // A fixed limit needs no ticks and no samples.
            Some(fixed) => Limit::Fixed(fixed.get()),
            None => {
                let (adaptive, algorithm) = Adaptive::described(algorithm);
                Limit::Found(adaptive, algorithm)
            }
        });
        self
    }

    /// Sets what happens to a new request if no place is free.
    ///
    /// Default is `Overflow::Reject`, since a server has to answer at once.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// Sets the order in which requests leave the queue.
    ///
    /// Default is `Order::Fifo`.
    pub fn order(mut self, order: Order) -> Self {
        self.config.line.order = order;
        self
    }

    /// Sets the age of the head request at which `Order::AdaptiveLifo` switches to newest first.
    /// The order switches back when the oldest request has waited less than half this age.
    ///
    /// Default is three measured mean service times, at most a quarter of the head request's
    /// allowed wait, and at least 5 ms.
    pub fn lifo_after(mut self, age: Duration) -> Self {
        self.config.line.lifo_after = Some(age);
        self
    }

    /// Keeps a standing queue short if requests have no deadlines. If even the shortest wait within
    /// 100 ms was above `target`, requests older than twice the target are removed, with
    /// [`Reason::Delay`](crate::error::Reason::Delay).
    ///
    /// `None` means a target of half the measured mean service time, and at least 5 ms. The rule
    /// and the constants are from the `Codel` class of Facebook's folly. Default is no controlled
    /// delay.
    pub fn controlled_delay(mut self, target: impl Into<Option<Duration>>) -> Self {
        self.config.line.delay = Some(target.into());
        self
    }

    /// Sets the share of the inner's time for each priority while higher priorities wait too.
    ///
    /// At most 0.25, to leave a share for the highest priority. At 0 a lower priority is dispatched
    /// only if no higher priority waits. Default is `0.05`: hardly noticeable to higher priorities,
    /// and enough to keep lower ones moving.
    pub fn guaranteed_share(mut self, share: f64) -> Self {
        self.config.line.guaranteed_share = share;
        self
    }

    /// Sets the number of queued flows with exact shares, in each priority.
    ///
    /// Further flows share 128 queues: each request goes to the shortest of the 6 queues of its
    /// flow (shuffle sharding). Flows hardly seen before share the same queues if they number more
    /// than a sixteenth of `flows`, as a guard against invented flows. Known flows with dedicated
    /// queues keep half of the inner's time against all shared queues together. Default is `1024`,
    /// at about 500 bytes for each queued flow.
    pub fn exact_flows(mut self, flows: usize) -> Self {
        self.config.line.dedicated_queues = flows;
        self
    }

    /// Sets how many of the busiest flows [`Stats::flows`](crate::Stats::flows) shows.
    ///
    /// One call in eight is counted, for eight, and about 130 bytes are kept for each flow. Default
    /// is `0`, at no cost.
    pub fn watch_flows(mut self, flows: usize) -> Self {
        self.config.watch_flows = flows;
        self
    }

    /// Limits the slots of each [flow](crate::Class::flow) at once, in all priorities: a bulkhead
    /// for each tenant. Requests beyond the limit wait, although slots are free, and hold up their
    /// own flow only. If the queue is full, they are refused with
    /// [`Reason::Full`](crate::error::Reason::Full), and
    /// [`is_over_share`](crate::error::Rejected::is_over_share) returns true.
    ///
    /// A request of a greater [cost](crate::Class::cost) than `limit` runs alone in its flow. Flows
    /// alone are limited, and not [bypassing](crate::Class::bypass) requests. Requests with a flow
    /// go through the drain task, even if nothing waits. Nested calls of a full flow are refused
    /// unless something bounds their wait. 1 or more. Default is no limit for flows.
    pub fn flow_limit(mut self, limit: usize) -> Self {
        self.config.line.flow_limit = Some(limit);
        self
    }

    /// Sets the secret by which flows are chosen for refusal under lasting overload.
    ///
    /// Processes with one secret refuse the same flows. Default is a random one for each leveler.
    pub fn cohort_key(mut self, secret: impl Hash) -> Self {
        self.config.cohort_key = Some(FlowKey::of(secret));
        self
    }

    /// Fixes the secret for flows and the hour of cohorts, so that a simulation can be repeated.
    #[cfg(feature = "model")]
    pub fn flow_seed(mut self, seed: u64) -> Self {
        (self.config.flow_key, self.config.hour) = (Some(FlowKey::of(seed)), Some(0));
        self
    }

    /// Sets how many requests of [`Class::bypass`](crate::Class::bypass) may run at once. Further
    /// ones are refused with [`Reason::Bypass`](crate::error::Reason::Bypass). 0 means none.
    ///
    /// Bypassing requests run beside the limit. If both use one pool of 8 connections, set
    /// `concurrency` to 8 less this limit.
    ///
    /// Default is `8`.
    pub fn bypass_limit(mut self, limit: usize) -> Self {
        self.config.bypass_limit = limit;
        self
    }

    /// Limits dispatch to `requests` within `per`, evenly spaced, in addition to the limit.
    ///
    /// For backends that police or bill by rate. The spacing follows the generic cell rate
    /// algorithm. Timers have millisecond resolution, so lateness of up to 2 ms is made up for, and
    /// rates far above 1000 per second hold. Lateness beyond 2 ms, as on a busy machine, is lost.
    /// While the rate holds requests back, free slots serve as waiting room. Default is no rate.
    pub fn rate(mut self, requests: u32, per: Duration) -> Self {
        self.config.rate = Some(Rate::new(requests, per));
        self
    }

    /// Sets how many requests may be dispatched at once after a time of unused
    /// [`rate`](Self::rate). Without a rate this setting has no effect.
    ///
    /// Default is `1`: always evenly spaced.
    pub fn rate_burst(mut self, requests: u32) -> Self {
        self.config.rate_burst = requests;
        self
    }

    /// Sets how long a request may wait, from admission to dispatch.
    ///
    /// A request with a longer wait is answered with
    /// [`Reason::MaxWait`](crate::error::Reason::MaxWait), within 2 ms of `max_wait` unless the
    /// runtime is starved. The setting bounds the wait only; put a `timeout` outside to bound wait
    /// and service time together. Under [`Overflow::Wait`](crate::Overflow::Wait) the wait for a
    /// place in `poll_ready` has the same limit. Needs a runtime with timers enabled. Size
    /// `max_wait` by the wait still useful to callers, less one service time. Default is no wait
    /// limit.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.config.max_wait = Some(max_wait);
        self
    }

    /// Sets what happens to a call if the caller drops the future.
    ///
    /// An inner that works in `spawn_blocking` needs `Abandon::Finish`: dropping its future does
    /// not stop the work, and under `Abandon::Cancel` the slot is free before the work has ended.
    ///
    /// Default is `Abandon::Cancel`, the same as without the layer.
    pub fn abandon(mut self, abandon: Abandon) -> Self {
        self.config.abandon = abandon;
        self
    }

    /// Sets who polls the inner's futures.
    ///
    /// Default is `Execution::Spawn`: no caller can block others.
    pub fn execution(mut self, execution: Execution) -> Self {
        self.config.execution = execution;
        self
    }

    /// Sets all settings of [`Settings`], as read from a file: each replaces the earlier value, and
    /// a later method replaces it again. Classifiers, the runtime and the settings of the feature
    /// `http` stay.
    ///
    /// Default is [`Settings::default`], which has no limit.
    pub fn settings(mut self, settings: Settings) -> Self {
        let Config { runtime, error, .. } = self.config;
        self.config = Config { runtime, error, ..settings.into() };
        self
    }

    /// Sets the runtime for the drain task and, under `Execution::Spawn`, for the calls.
    ///
    /// Useful to keep all work on one runtime. Without this setting, calls run on the runtimes of
    /// their callers. The drain task begins on the runtime of the first call that needs the task.
    /// If the runtime is not driven any more, the drain task moves to another caller's runtime
    /// within about 100 ms. Runtimes with a shared layer need timers enabled, as do all runtimes
    /// where a panic aborts. Drive a given runtime for as long as calls wait. Default is the
    /// callers' runtimes.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Self {
        self.config.runtime = Some(runtime);
        self
    }

    /// Carries the `tracing` dispatcher of the caller to wherever the inner runs for the call.
    ///
    /// A caller may have a scoped dispatcher, by `tracing::subscriber::with_default` or
    /// [`WithSubscriber`](tracing::instrument::WithSubscriber). The drain task and, under
    /// `Execution::Spawn`, the task of a call run outside of the scope, and events of the inner go
    /// to the global dispatcher; the caller's spans are carried all the same. Costs an allocation
    /// for each call, and a change of a thread-local for each poll. Default is not to carry the
    /// dispatcher: programs with a global dispatcher alone lose nothing.
    pub fn carry_dispatcher(mut self) -> Self {
        self.config.carry_dispatcher = true;
        self
    }

    /// Builds the layer. Needs no runtime.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] names the setting, the value and the allowed values, for:
    ///
    /// - a limit of 0, or no limit by `concurrency` or an algorithm
    /// - a capacity, limit, `exact_flows`, `flow_limit` or `bypass_limit` above 2²⁹ − 1025
    /// - a `max_wait`, `controlled_delay` or `body_idle` of zero
    /// - a `lifo_after` below 1 ms
    /// - a `guaranteed_share` outside 0…0.25
    /// - a `rate` of 0, in no time or in more than 100 years
    /// - a `rate_burst` of 0
    /// - `exact_flows` or `flow_limit` of 0, or `watch_flows` above 65 536
    /// - `Execution::Caller` with `Abandon::Finish`
    /// - an algorithm of [`Settings`] with the name `custom`, without its target, with a parameter
    ///   of another algorithm, or with bounds of 0 or in the wrong order
    pub fn build(self) -> Result<LoadLevelLayer<Q, R, H>, BuildError> {
        let Self { config, requests, responder } = self;
        let (settings, algorithm) = config.check()?;
        Ok(LoadLevelLayer::from_parts(
            Leveler::new(settings, algorithm),
            Arc::new(requests),
            Arc::new(responder),
        ))
    }
}

impl<Q, R, H> fmt::Debug for Builder<Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, requests: _, responder: _ } = self;
        f.debug_struct("Builder")
            .field("config", config)
            .field("request_classifier", &Opaque)
            .field("response_classifier", &Opaque)
            .finish()
    }
}
