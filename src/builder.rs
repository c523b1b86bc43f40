//! Every setting, its default and why.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    by_result::ByResult,
    class::{Class, Opaque, Unclassified},
    config::{Config, Limit},
    error::BuildError,
    layer::LoadLevelLayer,
    leveler::front::Leveler,
    limit::{Algorithm, Bdp, Fixed, Outcome},
    options::{Abandon, Execution, Order, Overflow},
    respond::{AsIs, Responder},
};

/// Builds a [`LoadLevelLayer`]; made by [`LoadLevelLayer::builder`].
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
pub struct Builder<Q = Unclassified, R = ByResult, H = AsIs> {
    pub(crate) config: Config,
    pub(crate) request_classifier: Q,
    pub(crate) responder: Responder<R, H>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let config = Config::default();
        let responder = Responder { classifier: ByResult, hand: AsIs };
        Self { config, request_classifier: Unclassified, responder }
    }
}

impl<Q, R, H> Builder<Q, R, H> {
    /// Sets the name of this leveler in spans and events.
    ///
    /// Name it after what it protects. Default is `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into().into();
        self
    }

    /// Sets how many requests may wait beyond those that the limit lets run; 0 means run now or be
    /// refused. A request counts as its [cost](Class::cost).
    ///
    /// Size it by time: at least (arrival rate − drain rate) × length of the longest burst, at most drain
    /// rate × the longest wait that is still worth it. Default is `1024`.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.config.capacity = capacity;
        self
    }

    /// Sets a fixed limit: how many calls may run in the inner at once.
    ///
    /// Size it by what the inner has: connections of its pool, writers of its database, cores for work
    /// that keeps them busy. If you do not know, or if it changes, let it be found:
    /// [`adaptive_concurrency`](Self::adaptive_concurrency). There is no default: one of the two is required,
    /// since no number is right for every backend.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.config.limit = Some(Limit::Fixed(limit));
        self
    }

    /// Finds the limit while it runs: how many calls the inner can do at once without taking longer for them.
    ///
    /// The short way to say `.adaptive(limit::Bdp::new())`. [`limit::Bdp`](crate::limit::Bdp) says how it is
    /// found and can be given bounds, and [`limit`](crate::limit) when another algorithm is better. The capacity
    /// stays what it is set to, so bursts wait whatever the limit. There is no default: this or
    /// [`concurrency`](Self::concurrency) is required.
    ///
    /// ```
    /// use tower_load_leveling::LoadLevelLayer;
    ///
    /// let layer = LoadLevelLayer::builder().capacity(1024).adaptive_concurrency().build()?;
    /// # drop(layer);
    /// # Ok::<(), tower_load_leveling::error::BuildError>(())
    /// ```
    pub fn adaptive_concurrency(self) -> Self {
        self.adaptive(Bdp::new())
    }

    /// Sets an algorithm that finds the limit, one of [`limit`](crate::limit) or your own.
    ///
    /// [`Stats::limit`](crate::Stats::limit) shows what it has found, and
    /// [`Handle::set_limit`](crate::Handle::set_limit) overrides it for good. Needs a runtime with its timer
    /// enabled, to tell the algorithm the time. There is no default:
    /// [`adaptive_concurrency`](Self::adaptive_concurrency) chooses one.
    pub fn adaptive(mut self, algorithm: impl Algorithm) -> Self {
        let fixed = (&algorithm as &dyn Any).downcast_ref::<Fixed>();
        self.config.limit = Some(match fixed {
            // Nothing is to be found: then it costs nothing.
            Some(fixed) => Limit::Fixed(fixed.get()),
            None => Limit::Found(Box::new(algorithm)),
        });
        self
    }

    /// Sets what happens to a newcomer when no place is free.
    ///
    /// Default is `Overflow::Reject`: a server has to answer, and at once.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// Sets in which order requests leave the queue.
    ///
    /// Default is `Order::Fifo`.
    pub fn order(mut self, order: Order) -> Self {
        self.config.line.order = order;
        self
    }

    /// Sets how long the request at the head must have been waiting for `Order::AdaptiveLifo` to turn to the
    /// newest first. It turns back when the oldest has waited less than half of that.
    ///
    /// Default is three mean service times, as measured, but no more than a quarter of how long that request
    /// may wait, and no less than 5 ms.
    pub fn lifo_after(mut self, age: Duration) -> Self {
        self.config.line.lifo_after = Some(age);
        self
    }

    /// Keeps a standing queue short when requests have no deadlines: when even the shortest wait within
    /// 100 ms was above `target`, those that have waited longer than twice the target are removed, with
    /// [`Reason::Delay`](crate::error::Reason::Delay).
    ///
    /// `None` stands for a target of half the mean service time, as measured, but no less than 5 ms. The rule
    /// and its constants are those of the `Codel` class of Facebook's folly. Default is no controlled delay.
    pub fn controlled_delay(mut self, target: impl Into<Option<Duration>>) -> Self {
        self.config.line.delay = Some(target.into());
        self
    }

    /// Sets which share of the inner's time each priority keeps while higher ones are waiting too.
    ///
    /// At most 0.25, so that there is something left for the highest. At 0 a lower priority is dispatched only
    /// when no higher one waits. Default is `0.05`: too little to be noticed above, enough to go on below.
    pub fn guaranteed_share(mut self, share: f64) -> Self {
        self.config.line.guaranteed_share = share;
        self
    }

    /// Sets for how many flows with something in the queue the shares are exact, in each priority.
    ///
    /// Flows beyond that share queues: 128 of them, each request going to the shortest of the 6 that belong to
    /// its flow. So do flows that have hardly been seen before, when there are more than a sixteenth of that
    /// number, for somebody may be inventing them. Known flows with queues of their own keep half of the
    /// inner's time against all those together. Default is `1024`, at some 500 bytes for each that has
    /// something in the queue.
    pub fn exact_flows(mut self, flows: usize) -> Self {
        self.config.line.dedicated_queues = flows;
        self
    }

    /// Sets how many requests of [`Class::bypass`](crate::Class::bypass) may run at once. 0 means none.
    ///
    /// Default is `8`.
    pub fn bypass_limit(mut self, limit: usize) -> Self {
        self.config.bypass_limit = limit;
        self
    }

    /// Sets how many requests are dispatched within `per` at most, evenly spaced, beside the limit.
    ///
    /// For backends that police or bill by rate. The spacing is that of the generic cell rate algorithm. Since
    /// timers are no finer than a millisecond, a request that comes late by up to 2 ms is made up for, so that
    /// rates far above a thousand per second hold; what a busy machine makes later than that is lost. While it
    /// is the rate that holds requests back, free slots are waiting room. Default is no rate.
    pub fn rate(mut self, requests: u32, per: Duration) -> Self {
        self.config.rate = Some((requests, per));
        self
    }

    /// Sets how many requests may be dispatched at once when the [`rate`](Self::rate) has not been used up
    /// before. Without a rate it has no effect.
    ///
    /// Default is `1`: evenly spaced, whatever was before.
    pub fn rate_burst(mut self, requests: u32) -> Self {
        self.config.rate_burst = requests;
        self
    }

    /// Sets how long a request may wait, from admission to dispatch.
    ///
    /// One that waits longer is answered with [`Reason::MaxWait`](crate::error::Reason::MaxWait), within
    /// 2 ms of that time, if the runtime is not starved. This bounds waiting only; put a `timeout` outside
    /// to bound waiting and running together. Needs a runtime with its timer enabled. Size it by what
    /// callers still find useful, less one service time. Default is no limit.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.config.max_wait = Some(max_wait);
        self
    }

    /// Sets what happens to a call whose caller drops its future.
    ///
    /// Default is `Abandon::Cancel`, which is what happens without the layer.
    pub fn abandon(mut self, abandon: Abandon) -> Self {
        self.config.abandon = abandon;
        self
    }

    /// Sets who polls the inner's futures.
    ///
    /// Default is `Execution::Spawn`, with which no caller can hold up others.
    pub fn execution(mut self, execution: Execution) -> Self {
        self.config.execution = execution;
        self
    }

    /// Sets the runtime for the drain task and, under `Execution::Spawn`, for the calls.
    ///
    /// Worth setting when there are several runtimes and the one of the first call may end before the
    /// others. Default is the runtime of the call that first needs it.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Self {
        self.config.runtime = Some(runtime);
        self
    }

    /// Builds the layer. Needs no runtime.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] names the setting, its value and what is allowed, for: a limit of 0; no limit,
    /// neither by `concurrency` nor by an algorithm; a capacity, limit, `exact_flows` or `bypass_limit` above 536 869 887
    /// (2²⁹ − 1025); a `max_wait`, `controlled_delay` or `body_idle` of zero; a `lifo_after` below 1 ms; a
    /// `guaranteed_share` outside 0…0.25; a `rate` of 0, in no time or in more than 100 years; a `rate_burst`
    /// of 0; `exact_flows` of 0; `Execution::Caller` with `Abandon::Finish`.
    pub fn build(self) -> Result<LoadLevelLayer<Q, R, H>, BuildError> {
        let Self { config, request_classifier, responder } = self;
        let (settings, algorithm) = config.check()?;
        Ok(LoadLevelLayer::from_parts(
            Leveler::new(settings, algorithm),
            Arc::new(request_classifier),
            Arc::new(responder),
        ))
    }
}

impl<R, H> Builder<Unclassified, R, H> {
    /// Sets what is known of a request before it waits, by a closure. The type of its parameter has to be
    /// written: `|request: &Request<Body>| …`.
    ///
    /// To be set once, as [`request_classifier`](Self::request_classifier) says. Default is [`Unclassified`]: all
    /// requests are alike.
    pub fn classify_request<Req, F>(self, classify: F) -> Builder<F, R, H>
    where
        F: Fn(&Req) -> Class,
    {
        self.request_classifier(classify)
    }

    /// The same for any [`ClassifyRequest`](crate::ClassifyRequest).
    ///
    /// There is one, set once: a builder that has it has neither of these methods any more, and the compiler says
    /// that `request_classifier` is a field, not a method. Join several by
    /// [`ClassifyRequest::or`](crate::ClassifyRequest::or). Default is [`Unclassified`].
    pub fn request_classifier<C>(self, classifier: C) -> Builder<C, R, H> {
        let Self { config, request_classifier: _, responder } = self;
        Builder { config, request_classifier: classifier, responder }
    }
}

impl<Q, R, H> Builder<Q, R, H> {
    /// Sets what a finished call says about the inner's health, by a closure.
    ///
    /// Default is [`ByResult`]: `Ok` is a success, an `Err` says nothing, but for those that are known to mean
    /// overload, such as a timeout further in.
    pub fn classify_response<T, E, F>(self, classify: F) -> Builder<Q, F, H>
    where
        F: Fn(Result<&T, &E>) -> Outcome,
    {
        self.response_classifier(classify)
    }

    /// The same for any [`ClassifyResponse`](crate::ClassifyResponse).
    ///
    /// Default is [`ByResult`].
    pub fn response_classifier<C>(self, classifier: C) -> Builder<Q, C, H> {
        let Self { config, request_classifier, responder } = self;
        let responder = Responder { classifier, hand: responder.hand };
        Builder { config, request_classifier, responder }
    }
}

impl<Q, R, H> fmt::Debug for Builder<Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, request_classifier: _, responder: _ } = self;
        f.debug_struct("Builder")
            .field("config", config)
            .field("request_classifier", &Opaque)
            .field("response_classifier", &Opaque)
            .finish()
    }
}
