//! Every setting, its default and why.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime;

use crate::{
    class::{ByResult, Class, Opaque, Unclassified},
    core::{Leveler, Settings, places::MAX, whole_limit},
    error::BuildError,
    layer::LoadLevelLayer,
    limit::{Algorithm, Outcome},
};

/// What happens to a newcomer when no place is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is refused at once, with [`Reason::Full`](crate::error::Reason::Full). For servers.
    #[default]
    Reject,
    /// `poll_ready` waits until there is a place, and reserves it until `call` or until the service is
    /// dropped. For clients that can slow down. A `call` without `poll_ready` is still decided at once.
    Wait,
    /// It is admitted, and the oldest request that waits is removed with
    /// [`Reason::Evicted`](crate::error::Reason::Evicted). When nobody waits, the newcomer is refused.
    /// For work that loses its value with age.
    EvictOldest,
}

/// In which order requests leave the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Oldest first.
    #[default]
    Fifo,
}

/// What happens to a call whose caller drops its future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandon {
    /// Its work is dropped too: a request that waits never reaches the inner, and the future of one that
    /// runs is dropped.
    #[default]
    Cancel,
    /// It is done all the same: for work that must not stop half way, and for fire-and-forget.
    Finish,
}

/// Who polls the inner's futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Execution {
    /// A task of its own for each call. Inner calls use every core, and a caller that stops polling holds
    /// nobody up.
    #[default]
    Spawn,
    /// The caller, as with tower's `Buffer`: the least overhead. **A caller that keeps its future and does
    /// not poll it keeps its slot, and is never answered.** Not possible with [`Abandon::Finish`].
    Caller,
}

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
pub struct Builder<Q = Unclassified, R = ByResult> {
    choices: Choices,
    request_classifier: Q,
    response_classifier: R,
}

/// All but the classifiers, which have types of their own.
#[derive(Debug)]
struct Choices {
    name: Arc<str>,
    capacity: usize,
    limit: Option<Limit>,
    overflow: Overflow,
    order: Order,
    max_wait: Option<Duration>,
    abandon: Abandon,
    execution: Execution,
    runtime: Option<runtime::Handle>,
}

enum Limit {
    Fixed(usize),
    Found(Box<dyn Algorithm>),
}

/// A burst of this many waits rather than is refused; at 1 ms a call and a limit of 16 the last of them
/// waits 64 ms. A round number that is small beside the memory of a server: size it for your own load.
const DEFAULT_CAPACITY: usize = 1024;

impl Builder {
    pub(crate) fn new() -> Self {
        let choices = Choices {
            name: Arc::from("default"),
            capacity: DEFAULT_CAPACITY,
            limit: None,
            overflow: Overflow::default(),
            order: Order::default(),
            max_wait: None,
            abandon: Abandon::default(),
            execution: Execution::default(),
            runtime: None,
        };
        Self { choices, request_classifier: Unclassified, response_classifier: ByResult }
    }
}

impl<Q, R> Builder<Q, R> {
    /// Sets the name of this leveler in spans, events and metrics.
    ///
    /// Name it after what it protects. Default is `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.choices.name = name.into().into();
        self
    }

    /// Sets how many requests may wait beyond those that the limit lets run; 0 means run now or be
    /// refused.
    ///
    /// Size it by time: at least (arrival rate − drain rate) × length of the longest burst, at most drain
    /// rate × the longest wait that is still worth it. Default is `1024`.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.choices.capacity = capacity;
        self
    }

    /// Sets a fixed limit: how many calls may run in the inner at once.
    ///
    /// Size it by what the inner has: connections of its pool, writers of its database, cores for work
    /// that keeps them busy. There is no default: this or [`adaptive`](Self::adaptive) is required, since
    /// no number is right for every backend.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.choices.limit = Some(Limit::Fixed(limit));
        self
    }

    /// Sets an algorithm that finds the limit.
    ///
    /// [`Handle::set_limit`](crate::Handle::set_limit) overrides it for good. There is no default: this
    /// or [`concurrency`](Self::concurrency) is required.
    pub fn adaptive(mut self, algorithm: impl Algorithm) -> Self {
        self.choices.limit = Some(Limit::Found(Box::new(algorithm)));
        self
    }

    /// Sets what happens to a newcomer when no place is free.
    ///
    /// Default is `Overflow::Reject`: a server has to answer, and at once.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.choices.overflow = overflow;
        self
    }

    /// Sets in which order requests leave the queue.
    ///
    /// Default is `Order::Fifo`.
    pub fn order(mut self, order: Order) -> Self {
        self.choices.order = order;
        self
    }

    /// Sets how long a request may wait, from admission to dispatch.
    ///
    /// One that waits longer is answered with [`Reason::MaxWait`](crate::error::Reason::MaxWait), within
    /// 2 ms of that time. This bounds waiting only; put a `timeout` outside to bound waiting and running
    /// together. Needs a runtime with its timer enabled. Size it by what callers still find useful, less
    /// one service time. Default is no limit.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.choices.max_wait = Some(max_wait);
        self
    }

    /// Sets what happens to a call whose caller drops its future.
    ///
    /// Default is `Abandon::Cancel`, which is what happens without the layer.
    pub fn abandon(mut self, abandon: Abandon) -> Self {
        self.choices.abandon = abandon;
        self
    }

    /// Sets who polls the inner's futures.
    ///
    /// Default is `Execution::Spawn`, with which no caller can hold up others.
    pub fn execution(mut self, execution: Execution) -> Self {
        self.choices.execution = execution;
        self
    }

    /// Sets the runtime for the drain task and, under `Execution::Spawn`, for the calls.
    ///
    /// Worth setting when there are several runtimes and the one of the first call may end before the
    /// others. Default is the runtime of the call that first needs it.
    pub fn runtime(mut self, runtime: runtime::Handle) -> Self {
        self.choices.runtime = Some(runtime);
        self
    }

    /// Sets what is known of a request before it waits, by a closure.
    ///
    /// Default is [`Unclassified`]: all requests are alike.
    pub fn classify_request<Req, F>(self, classify: F) -> Builder<F, R>
    where
        F: Fn(&Req) -> Class,
    {
        self.request_classifier(classify)
    }

    /// The same for any [`ClassifyRequest`](crate::ClassifyRequest).
    ///
    /// Default is [`Unclassified`].
    pub fn request_classifier<C>(self, classifier: C) -> Builder<C, R> {
        let Self { choices, request_classifier: _, response_classifier } = self;
        Builder { choices, request_classifier: classifier, response_classifier }
    }

    /// Sets what a finished call says about the inner's health, by a closure.
    ///
    /// Default is [`ByResult`]: `Ok` is a success, `Err` says nothing.
    pub fn classify_response<T, E, F>(self, classify: F) -> Builder<Q, F>
    where
        F: Fn(Result<&T, &E>) -> Outcome,
    {
        self.response_classifier(classify)
    }

    /// The same for any [`ClassifyResponse`](crate::ClassifyResponse).
    ///
    /// Default is [`ByResult`].
    pub fn response_classifier<C>(self, classifier: C) -> Builder<Q, C> {
        let Self { choices, request_classifier, response_classifier: _ } = self;
        Builder { choices, request_classifier, response_classifier: classifier }
    }

    /// Builds the layer. Needs no runtime.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] names the setting, its value and what is allowed, for: a limit of 0; neither
    /// `concurrency` nor `adaptive`; a capacity or limit above 536 869 887 (2²⁹ − 1025); a `max_wait` of
    /// zero; `Execution::Caller` with `Abandon::Finish`.
    pub fn build(self) -> Result<LoadLevelLayer<Q, R>, BuildError> {
        let Self { choices, request_classifier, response_classifier } = self;
        let Choices {
            name,
            capacity,
            limit,
            overflow,
            order: Order::Fifo,
            max_wait,
            abandon,
            execution,
            runtime,
        } = choices;
        if capacity > MAX {
            return Err(BuildError::new("capacity", capacity, format!("0 to {MAX}")));
        }
        let (limit, algorithm) = match limit {
            None => {
                let allowed = "a limit by `concurrency`, or an algorithm by `adaptive`";
                return Err(BuildError::new("concurrency", "not set", allowed));
            }
            Some(Limit::Fixed(limit)) => (limit, None),
            Some(Limit::Found(algorithm)) => (whole_limit(algorithm.limit()), Some(algorithm)),
        };
        if limit == 0 || limit > MAX {
            return Err(BuildError::new("concurrency", limit, format!("1 to {MAX}")));
        }
        if max_wait.is_some_and(|wait| wait.is_zero()) {
            let allowed = "more than zero (for no waiting at all, set `capacity` to 0)";
            return Err(BuildError::new("max_wait", "0ns", allowed));
        }
        if execution == Execution::Caller && abandon == Abandon::Finish {
            let allowed = "`Execution::Spawn` when `abandon` is `Abandon::Finish`: a call that its caller \
                           polls cannot outlive it";
            return Err(BuildError::new("execution", "Execution::Caller", allowed));
        }
        let settings =
            Settings { name, capacity, limit, max_wait, overflow, abandon, execution, runtime };
        Ok(LoadLevelLayer::from_parts(
            Leveler::new(settings, algorithm),
            Arc::new(request_classifier),
            Arc::new(response_classifier),
        ))
    }
}

impl<Q, R> fmt::Debug for Builder<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { choices, request_classifier: _, response_classifier: _ } = self;
        f.debug_struct("Builder")
            .field("choices", choices)
            .field("request_classifier", &Opaque)
            .field("response_classifier", &Opaque)
            .finish()
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
