//! The class of a request.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

#[cfg(feature = "http")]
use crate::http::hold::Hold;
use crate::words::{display_words, words};

/// The class of a request: priority, flow and its weight, deadline, cost, whether to bypass the
/// queue, and, with the feature `http`, until when to keep the slot.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_load_leveling::{Class, Priority};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let class = Class::new()
///     .priority(Priority::High)
///     .flow("tenant-7")
///     .deadline(Instant::now() + Duration::from_millis(250))
///     .cost(3);
/// # drop(class);
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Class {
    pub(crate) deadline: Option<Instant>,
    pub(crate) rank: Rank,
    pub(crate) bypass: bool,
    /// The hash of the request's kind, or [`NO_KIND`].
    pub(crate) kind: u64,
    /// The choice of whether to keep the slot until the end of the response body. `None` leaves the
    /// choice to the builder.
    pub(crate) holds_body: Option<bool>,
}

/// The part of a class for the queue: the order of the request and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) priority: Priority,
    /// The hash of the request's flow, or [`NO_FLOW`].
    pub(crate) flow: u64,
    pub(crate) cost: u32,
    /// The weight of the flow: the flow's share of the inner's time relative to other flows, from 1
    /// to [`MAX_SHARE`]. (In code for costs, *weight* is a sum of costs.)
    pub(crate) share: u16,
}

/// The highest weight of a flow. A flow of this weight gets 99 % of the inner's time beside ten
/// flows of weight 1. Higher weights would make no difference.
pub(crate) const MAX_SHARE: u16 = 1000;

/// The flow shared by all requests without a flow.
pub(crate) const NO_FLOW: u64 = 0;

/// The kind of requests without a kind in the class.
pub(crate) const NO_KIND: u64 = 0;

impl Default for Rank {
    fn default() -> Self {
        Self { priority: Priority::default(), flow: NO_FLOW, cost: 1, share: 1 }
    }
}

impl Class {
    /// Returns the default class: normal priority, no flow, no deadline, cost 1, weight 1.
    pub fn new() -> Self {
        Self {
            deadline: None,
            rank: Rank::default(),
            bypass: false,
            kind: NO_KIND,
            holds_body: None,
        }
    }

    /// Returns the class of every request if the leveler is switched off.
    pub(crate) fn unlevelled() -> Self {
        Self { holds_body: Some(false), ..Self::new() }
    }

    /// Returns the class of health checks and admin calls, which bypass the queue.
    ///
    /// A bypassing request is dispatched at once, however many wait or run, even while the leveler
    /// is paused. Bypassing requests have a separate budget,
    /// [`Builder::bypass_limit`](crate::Builder::bypass_limit). Beyond the budget, bypassing
    /// requests are refused with [`Reason::Bypass`](crate::error::Reason::Bypass). A closed leveler
    /// refuses bypassing requests too. No rate delays them.
    ///
    /// Running bypassing requests are counted by [`Stats::bypassing`](crate::Stats::bypassing)
    /// alone, and no limit algorithm sees them. Refused ones are counted by
    /// [`Stats::refused`](crate::Stats::refused).
    ///
    /// If the inner service is not ready at the time of the call, the request is treated as a
    /// request of [`Priority::Critical`]. Priority, flow, weight, deadline and cost set on this
    /// class matter only in this case.
    ///
    /// With [`Overflow::Wait`](crate::Overflow::Wait), `poll_ready` waits for a place as for any
    /// other request. Call the service without `poll_ready` to bypass the wait.
    pub fn bypass() -> Self {
        Self { bypass: true, ..Self::new() }.priority(Priority::Critical)
    }

    /// Sets the priority of the request. Default is [`Priority::Normal`].
    ///
    /// Derive the priority from facts known to the server (the route, the account), not from a wish
    /// of the caller.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.rank.priority = priority;
        self
    }

    /// Sets the flow of the request, the key for fair shares: a tenant, a user, an address.
    ///
    /// Within a priority, the flow with the least use of the inner's time goes next. A flow with
    /// too many requests therefore delays only its own. When the queue is full, the longest flow
    /// gives way. All requests without a flow are together one flow; `None` as a flow is a
    /// different one. Under lasting overload, whole flows of a lower priority are refused, except
    /// flows below their fair share: see [`Priority`]. Default is no flow.
    ///
    /// Use a verified identity: a claim of a token with a checked signature, the name in a client
    /// certificate, the address of the connection. An unauthenticated header is no flow: callers
    /// would invent a new flow for each request, or write another tenant's.
    ///
    /// Only a hash of `flow` is kept, the same in every process built with the same standard
    /// library. Each leveler maps the hash by a secret function, so callers can't search for flows
    /// with the same place in a table.
    pub fn flow(mut self, flow: impl Hash) -> Self {
        self.rank.flow = hash_of(flow);
        self
    }

    /// Sets the weight of the request's [flow](Self::flow), from 1 to 1000: its share relative to
    /// the flows of the same priority.
    ///
    /// While flows with the weights 1, 2 and 4 all have requests waiting, the flows get a seventh,
    /// two sevenths and four sevenths of the inner's time. A flow that asks for less than its share
    /// leaves the rest to the other flows, in the ratio of their weights. A full queue is shared in
    /// the same ratio: the flow with the most waiting *for its weight* gives way. A flow of weight
    /// 4 may have four times as much waiting as a flow of weight 1 before it is the longest. Under
    /// lasting overload, the fair share up to which a flow is never cut off follows the weight as
    /// well. A weight does not change the cost of a request, and says nothing about how much a flow
    /// may run at once.
    ///
    /// The weight belongs to the flow and not to the request: the newest queued request sets the
    /// weight of its flow, for earlier requests too, at its priority. Requests without a flow are
    /// together one flow, with a weight of the same kind.
    ///
    /// Shares are exact for flows with a queue of their own. Flows beyond
    /// [`Builder::exact_flows`](crate::Builder::exact_flows) share queues. So do flows hardly seen
    /// before, if there are many. In a shared queue, each request is charged by its own weight.
    /// Heavier flows gain, and so do the flows in the same queues; no ratio is exact. A full queue
    /// then counts all requests in shared queues with weight 1. Flows in shared queues get half of
    /// the inner's time at most, whatever the weights.
    ///
    /// Derive the weight from what the server knows (the plan of an account), not from a wish of
    /// the caller. 0 counts as 1, and more than 1000 as 1000. Default is 1.
    ///
    /// ```
    /// use tower_load_leveling::Class;
    ///
    /// /// The account of a caller, as an authentication layer has found it.
    /// struct Account {
    ///     id: u64,
    ///     is_paying: bool,
    /// }
    ///
    /// fn classify(account: &Account) -> Class {
    ///     let weight = if account.is_paying { 4 } else { 1 };
    ///     Class::new().flow(account.id).weight(weight)
    /// }
    /// # drop(classify(&Account { id: 7, is_paying: true }));
    /// ```
    pub fn weight(mut self, weight: u32) -> Self {
        self.rank.share = weight.clamp(1, MAX_SHARE.into()) as u16;
        self
    }

    /// Sets the kind of the request, for predictions: the route, the method, the kind of job.
    ///
    /// Requests of one kind take similar times. If the kind, at this priority, is known to take
    /// longer than the time left to the [deadline](Self::deadline), the request is rejected with
    /// [`Reason::WouldMissDeadline`](crate::error::Reason::WouldMissDeadline), whatever other kinds
    /// take. Now and then such a request runs as a probe, to notice when the kind has become fast
    /// again: at most one a second, and for at most 0.05 % of the inner's time.
    ///
    /// Requests without a kind are told apart by the time left only. While nothing waits, requests
    /// without a kind are not rejected for a learned time, unless calls that are late without
    /// exception take more than an eighth of the slots, and more than 8. Then a probe runs every
    /// 100 ms, until calls are in time again.
    ///
    /// Each leveler tells 256 kinds apart, in order of first sight, and learns nothing of further
    /// kinds. Use the pattern of a route, and not a path with an id in the path. Default is no
    /// kind.
    pub fn kind(mut self, kind: impl Hash) -> Self {
        self.kind = hash_of(kind);
        self
    }

    /// Sets the instant after which the caller no longer needs the response.
    ///
    /// A request not dispatched by then is rejected with
    /// [`Reason::Deadline`](crate::error::Reason::Deadline); a deadline of exactly now has passed.
    /// If the deadline cannot be met by the measured wait and service time, the request is rejected
    /// early, with [`Reason::WouldMissDeadline`](crate::error::Reason::WouldMissDeadline).
    ///
    /// The layer never cancels a running call. If the caller drops a running call after the
    /// deadline, an [adaptive limit](crate::Builder::adaptive_concurrency) takes the drop as a sign
    /// of [`Overload`](crate::limit::Outcome::Overload). Default is no deadline.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    /// Merges two classes. A value left at the default by `self` comes from `other`; the earlier
    /// deadline wins; the result bypasses the queue if either does.
    pub fn or(self, other: Self) -> Self {
        fn either<T: PartialEq>(own: T, default: T, other: T) -> T {
            if own == default { other } else { own }
        }
        let Rank { priority, flow, cost, share } = Rank::default();
        Self {
            deadline: self.deadline.into_iter().chain(other.deadline).min(),
            rank: Rank {
                priority: either(self.rank.priority, priority, other.rank.priority),
                flow: either(self.rank.flow, flow, other.rank.flow),
                cost: either(self.rank.cost, cost, other.rank.cost),
                share: either(self.rank.share, share, other.rank.share),
            },
            bypass: self.bypass || other.bypass,
            kind: either(self.kind, NO_KIND, other.kind),
            holds_body: self.holds_body.or(other.holds_body),
        }
    }

    /// Sets until when the call keeps its slot. Has an effect only if the builder sets
    /// [`hold_until`](crate::Builder::hold_until). Default is the value of the builder.
    ///
    /// For calls without an end: a bidirectional gRPC stream, server-sent events. Under
    /// [`Hold::BodyEnd`], as many endless streams as the limit has slots keep every slot for good,
    /// and all other calls wait. With `Hold::Response`, a stream keeps its slot until the response
    /// only, and the layer does not limit how many streams are open.
    ///
    /// ```
    /// use http::Request;
    /// use tower_load_leveling::{Class, LoadLevelLayer, http::Hold};
    ///
    /// let streams = |request: &Request<String>| match request.uri().path() {
    ///     "/chat.Chat/Talk" => Class::new().hold(Hold::Response),
    ///     _ => Class::new(),
    /// };
    /// let layer = LoadLevelLayer::builder()
    ///     .concurrency(64)
    ///     .request_classifier(streams)
    ///     .hold_until(Hold::BodyEnd)
    ///     .build()?;
    /// # drop(layer);
    /// # Ok::<(), tower_load_leveling::error::BuildError>(())
    /// ```
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn hold(mut self, hold: Hold) -> Self {
        self.holds_body = Some(hold == Hold::BodyEnd);
        self
    }

    /// Sets the cost of the request: the number of slots and of places to take.
    ///
    /// 0 counts as 1. A request with a higher cost than the limit runs alone. With
    /// [`Overflow::Wait`](crate::Overflow::Wait), `poll_ready` reserves a single place, and a
    /// request of a higher cost may be refused with [`Reason::Full`](crate::error::Reason::Full)
    /// although the service was ready. Default is 1.
    pub fn cost(mut self, cost: u32) -> Self {
        self.rank.cost = cost.max(1);
        self
    }
}

/// Returns a hash, never [`NO_FLOW`] or [`NO_KIND`].
fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

impl Default for Class {
    fn default() -> Self {
        Self::new()
    }
}

/// The urgency of a request.
///
/// Higher priorities are dispatched first. Each lower priority keeps a small share of the
/// dispatches ([`Builder::guaranteed_share`](crate::Builder::guaranteed_share)) and never starves.
/// When the queue is full, a new request evicts a request of a lower priority.
///
/// Under lasting overload the lower priorities are *cut off* (load shedding): requests beyond the
/// available room are refused on arrival with [`Reason::CutOff`](crate::error::Reason::CutOff). The
/// choice is by a hash of [flow](Class::flow), hour and a
/// [secret](crate::Builder::cohort_key): the same few users are refused, instead of everybody now
/// and then. Flows below their fair share are never cut off, nor is the highest
/// priority in use. Giving one route a higher priority lowers all other routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Requests for what must work when nothing else does.
    Critical,
    /// Requests with a user waiting, and the first whose delay is noticed.
    High,
    /// Requests without a classification.
    #[default]
    Normal,
    /// Requests with a user waiting, but dispensable.
    Low,
    /// Requests with nobody waiting: batch work, prefetching.
    Background,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: &'static [Self] = &Self::EACH;

    /// [`ALL`](Self::ALL) as an array, in the order of the discriminants.
    pub(crate) const EACH: [Self; 5] =
        [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Background];

    /// The position in [`ALL`](Self::ALL).
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

words!(Priority, "priority", {
    Critical = "critical",
    High = "high",
    Normal = "normal",
    Low = "low",
    Background = "background",
});
display_words!(Priority);
