//! What is known of a request before it waits, and of a response after it came.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

use crate::limit::Outcome;

/// What is known of one request: how urgent it is, whose, until when it is worth starting, and how heavy.
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
}

/// Where a request stands among others, and how much it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) priority: Priority,
    /// The hash of its flow, or [`NO_FLOW`].
    pub(crate) flow: u64,
    pub(crate) cost: u32,
}

/// Requests without a flow are a flow of their own.
pub(crate) const NO_FLOW: u64 = 0;

impl Default for Rank {
    fn default() -> Self {
        Self { priority: Priority::default(), flow: NO_FLOW, cost: 1 }
    }
}

impl Class {
    /// Returns a class that says nothing special: normal priority, no flow, no deadline, cost 1.
    pub fn new() -> Self {
        Self { deadline: None, rank: Rank::default(), bypass: false }
    }

    /// Returns the class of health checks and admin calls: they go past the queue.
    ///
    /// Such a request is dispatched at once, whatever waits or runs, also while the leveler is paused. There
    /// is a budget of its own for them ([`Builder::bypass_limit`](crate::Builder::bypass_limit)); beyond it
    /// they are refused with [`Reason::Full`](crate::error::Reason::Full), and a closed leveler refuses them
    /// like all others. No rate holds them. While they run they are counted by
    /// [`Stats::bypassing`](crate::Stats::bypassing) and nowhere else, and no limit algorithm sees them; those
    /// refused are in [`Stats::refused`](crate::Stats::refused).
    /// Should their inner service not be ready at that moment, they are treated as requests of
    /// [`Priority::Critical`]. Priority, flow, deadline and cost set on this class matter only then.
    ///
    /// With [`Overflow::Wait`](crate::Overflow::Wait) it is `poll_ready` that waits, for a place as for any other
    /// request: call without it.
    pub fn bypass() -> Self {
        Self { bypass: true, ..Self::new() }.priority(Priority::Critical)
    }

    /// Sets how urgent the request is. Default is [`Priority::Normal`].
    ///
    /// Say it by what the server knows (the route, the account), not by what the caller asks for.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.rank.priority = priority;
        self
    }

    /// Sets to whose share the request counts: a tenant, a user, an address.
    ///
    /// Inside a priority the flow that has had the least of the inner's time goes next, so one that sends too
    /// much waits for itself, and when the queue is full it is the longest flow that gives way. Requests
    /// without a flow are one flow together; a flow of `None` is another. Under lasting overload whole flows
    /// of a lower priority are refused, those that ask for less than their share excepted: see
    /// [`Priority`]. Default is no flow.
    ///
    /// Only a hash of `flow` is kept, the same in every process that was built with the same standard
    /// library.
    pub fn flow(mut self, flow: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        flow.hash(&mut hasher);
        let hash = hasher.finish();
        self.rank.flow = if hash == NO_FLOW { 1 } else { hash };
        self
    }

    /// Sets the instant after which the request is of no use to its caller any more.
    ///
    /// It is rejected with [`Reason::Deadline`](crate::error::Reason::Deadline) if it has not been
    /// dispatched by then; a deadline that is exactly now has passed. When the wait and the service time that
    /// were measured say that it cannot be met, the request is rejected before, with
    /// [`Reason::WouldMissDeadline`](crate::error::Reason::WouldMissDeadline). The layer does not cut a call
    /// that is already running; should its caller drop it then, that is a sign of
    /// [`Overload`](Outcome::Overload) for a limit that is [found](crate::Builder::adaptive_concurrency). Default is
    /// no deadline.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    /// Returns what both say: what this one leaves at its default is taken from `other`, the earlier of two
    /// deadlines counts, and a bypass of either is one.
    pub fn or(self, other: Self) -> Self {
        fn either<T: PartialEq>(own: T, default: T, other: T) -> T {
            if own == default { other } else { own }
        }
        let Rank { priority, flow, cost } = Rank::default();
        Self {
            deadline: self.deadline.into_iter().chain(other.deadline).min(),
            rank: Rank {
                priority: either(self.rank.priority, priority, other.rank.priority),
                flow: either(self.rank.flow, flow, other.rank.flow),
                cost: either(self.rank.cost, cost, other.rank.cost),
            },
            bypass: self.bypass || other.bypass,
        }
    }

    /// Sets how heavy the request is: how many slots of the limit, and how many places, it takes.
    ///
    /// 0 is taken as 1. One that is heavier than the limit runs alone. With
    /// [`Overflow::Wait`](crate::Overflow::Wait), `poll_ready` reserves a single place, so one that takes more
    /// may be refused with [`Reason::Full`](crate::error::Reason::Full) though the service was ready. Default
    /// is 1.
    pub fn cost(mut self, cost: u32) -> Self {
        self.rank.cost = cost.max(1);
        self
    }
}

impl Default for Class {
    fn default() -> Self {
        Self::new()
    }
}

/// How urgent a request is.
///
/// Higher priorities are dispatched first, and each lower one keeps a small share of the dispatches
/// ([`Builder::guaranteed_share`](crate::Builder::guaranteed_share)), so that none starves. When the queue is
/// full a newcomer pushes out one of a lower priority. Under lasting overload the lower ones are *cut off*: as
/// many of them as there is no room for are refused at the door, chosen by a hash of
/// [flow](Class::flow) and hour, so that it is the same few users and not everybody now and then. Flows that ask
/// for less than their fair share are left alone, and so is the highest priority in use. Giving one route a
/// higher priority makes all others lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// What must work when nothing else does.
    Critical,
    /// Somebody waits for it, and would notice first.
    High,
    /// Everything that nobody has classified.
    #[default]
    Normal,
    /// Somebody waits for it, and can do without.
    Low,
    /// Nobody waits for it: batch work, prefetching.
    Background,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Critical, Self::High, Self::Normal, Self::Low, Self::Background];

    /// The position in [`ALL`](Self::ALL), which lists the variants in the order of their discriminants.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Tells what is known of a request.
///
/// Implemented for closures `Fn(&Req) -> Class`. It runs in `call`, on the caller's thread, before the
/// request is admitted; a panic in it is the caller's own and changes nothing for others.
pub trait ClassifyRequest<Req> {
    /// Returns the class of `request`.
    fn classify(&self, request: &Req) -> Class;

    /// Returns what is to be done to a request just before its dispatch, given how long it has waited; for
    /// this crate alone.
    #[doc(hidden)]
    fn prepare(&self) -> Option<Prepare<Req>> {
        None
    }

    /// Returns a classifier that asks both, where this one has the say: see [`Class::or`].
    ///
    /// For a classifier of your own that classifies requests of more than one type, say which are meant:
    /// `ClassifyRequest::<Request<Body>>::or(mine, other)`. Those of this crate need not be told.
    fn or<C>(self, other: C) -> Or<Self, C>
    where
        Self: Sized,
        C: ClassifyRequest<Req>,
    {
        Or(self, other)
    }
}

/// What [`ClassifyRequest::prepare`] returns.
#[doc(hidden)]
pub type Prepare<Req> = fn(&mut Req, Duration);

/// What [`ClassifyRequest::or`] returns.
#[derive(Clone, Copy, Debug)]
pub struct Or<A, B>(pub(crate) A, pub(crate) B);

impl<A, B> Or<A, B> {
    /// Joins it with another classifier, as [`ClassifyRequest::or`] does, without having to say for which requests.
    pub fn or<C>(self, other: C) -> Or<Self, C> {
        Or(self, other)
    }
}

impl<A, B, Req> ClassifyRequest<Req> for Or<A, B>
where
    A: ClassifyRequest<Req>,
    B: ClassifyRequest<Req>,
{
    fn classify(&self, request: &Req) -> Class {
        self.0.classify(request).or(self.1.classify(request))
    }

    /// Only one of them can have something to do.
    fn prepare(&self) -> Option<Prepare<Req>> {
        self.0.prepare().or(self.1.prepare())
    }
}

impl<F, Req> ClassifyRequest<Req> for F
where
    F: Fn(&Req) -> Class,
{
    fn classify(&self, request: &Req) -> Class {
        self(request)
    }
}

/// The default [`ClassifyRequest`]: every request is like every other.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unclassified;

impl<Req> ClassifyRequest<Req> for Unclassified {
    fn classify(&self, _request: &Req) -> Class {
        Class::new()
    }
}

/// Tells what a finished call says about the health of the inner service.
///
/// Implemented for closures `Fn(Result<&T, &E>) -> Outcome`. It runs where the call was running; a panic
/// in it reaches the caller of that call and nobody else.
pub trait ClassifyResponse<T, E> {
    /// Returns the outcome of a call that ended with `result`.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;

    /// Returns what the trailers of the response say instead, if they do; for this crate alone.
    #[cfg(feature = "http")]
    #[doc(hidden)]
    fn classify_trailers(&self, _trailers: &http::HeaderMap) -> Option<Outcome> {
        None
    }
}

impl<F, T, E> ClassifyResponse<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// Prints a classifier as the word `classifier`: closures have no `Debug`.
pub(crate) struct Opaque;

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("classifier")
    }
}
