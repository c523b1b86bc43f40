//! What a call can be answered with instead of a response.
//!
//! The error type of the [`LoadLevel`](crate::LoadLevel) service is [`BoxError`]. Errors of the inner
//! service pass through it unwrapped; the two that this crate adds are found by `downcast_ref`:
//!
//! - [`Rejected`]: the layer refused or removed the request *before* it reached the inner service.
//!   Nothing was started, so it is safe to retry.
//! - [`ServiceError`]: the inner service has died, or the runtime that was running the call has.
//!
//! [`Refused`] is the answer of [`LoadLevel::try_call`](crate::LoadLevel::try_call), which hands the
//! request back. [`BuildError`] says which setting of the [`Builder`](crate::Builder) is not possible.

use std::{error::Error, fmt, sync::Arc, time::Duration};

pub use tower::BoxError;

use crate::retry_after::RetryAfter;

/// Why a request was refused at the door or removed from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No place was free: capacity + limit requests were already admitted, or under lasting overload there is
    /// none for its [priority](crate::Priority). Also when too many
    /// [bypass](crate::Class::bypass) the queue.
    Full,
    /// Pushed out of a full queue: by a newer request under
    /// [`Overflow::EvictOldest`](crate::Overflow::EvictOldest), by one of a higher
    /// [priority](crate::Priority), or by one of a [flow](crate::Class::flow) that has less in the queue.
    Evicted,
    /// Waited as long as [`Builder::max_wait`](crate::Builder::max_wait) allows.
    MaxWait,
    /// Its own [deadline](crate::Class::deadline) passed before its turn came.
    Deadline,
    /// Its deadline could not be met any more, by the measured wait and service time.
    WouldMissDeadline,
    /// Removed by [controlled delay](crate::Builder::controlled_delay), which keeps a standing queue short.
    Delay,
    /// The leveler was closed, or its drain task died with its runtime.
    Closed,
    /// There was no Tokio runtime to run the drain task on.
    NoRuntime,
}

impl Reason {
    /// Every reason, in the order in which they are counted.
    pub(crate) const ALL: [Self; 8] = [
        Self::Full,
        Self::Evicted,
        Self::MaxWait,
        Self::Deadline,
        Self::WouldMissDeadline,
        Self::Delay,
        Self::Closed,
        Self::NoRuntime,
    ];

    /// Returns the name of this reason in snake case, as it is in the fields of events.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Evicted => "evicted",
            Self::MaxWait => "max_wait",
            Self::Deadline => "deadline",
            Self::WouldMissDeadline => "would_miss_deadline",
            Self::Delay => "delay",
            Self::Closed => "closed",
            Self::NoRuntime => "no_runtime",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Evicted => "evicted in favour of another request",
            Self::MaxWait => "the wait limit was reached",
            Self::Deadline => "the deadline passed",
            Self::WouldMissDeadline => "the deadline would be missed",
            Self::Delay => "the queue delay stayed above its target",
            Self::Closed => "the leveler is closed",
            Self::NoRuntime => "no Tokio runtime is running",
        })
    }
}

/// The layer refused or removed this request before the inner service saw it.
///
/// The request was **never started**: it is safe to retry, even one that is not idempotent.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub(crate) reason: Reason,
    pub(crate) retry_after: RetryAfter,
    pub(crate) waited: Duration,
    pub(crate) queued: usize,
    pub(crate) limit: usize,
    pub(crate) over_share: bool,
}

impl Rejected {
    /// Returns why the request was rejected.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns when it makes sense to try again: the time in which the queue of this moment drains, at
    /// the rate at which calls have lately been finishing, or can by their mean time and the limit. It is
    /// spread by ±20 %, so that not all who were rejected come back together, and is a minute at most; and
    /// about a second at least for those whose priority is cut off. `None` until a call has finished, and
    /// when trying again is of no use: [`Reason::Closed`], [`Reason::NoRuntime`], and
    /// [`Reason::WouldMissDeadline`] for a deadline that is shorter than a call.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    /// Returns how long the request had been waiting; zero when it was refused at the door.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns how many requests were waiting at that moment.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the limit at that moment.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether it was the share of its own [flow](crate::Class::flow) that was used up: others were
    /// waiting too, and none had more in the queue.
    #[must_use]
    pub fn is_over_share(&self) -> bool {
        self.over_share
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, waited, queued, limit, .. } = self;
        write!(f, "request rejected: {reason} ({queued} queued, limit {limit}")?;
        if !waited.is_zero() {
            write!(f, ", waited {waited:?}")?;
        }
        f.write_str(")")
    }
}

impl Error for Rejected {}

/// A request refused by [`LoadLevel::try_call`](crate::LoadLevel::try_call), with the request itself. Its
/// [`source`](Error::source) is the [`Rejected`].
pub struct Refused<Req> {
    pub(crate) rejected: Rejected,
    pub(crate) request: Req,
}

impl<Req> Refused<Req> {
    /// Returns why, and when to try again.
    #[must_use]
    pub fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    /// Returns the request, for a fallback or a retry.
    #[must_use]
    pub fn into_request(self) -> Req {
        self.request
    }

    /// Returns both halves.
    #[must_use]
    pub fn into_parts(self) -> (Rejected, Req) {
        (self.rejected, self.request)
    }
}

impl<Req> fmt::Debug for Refused<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rejected, request: _ } = self;
        f.debug_struct("Refused").field("rejected", rejected).finish_non_exhaustive()
    }
}

impl<Req> fmt::Display for Refused<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("request refused")
    }
}

impl<Req> Error for Refused<Req> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.rejected)
    }
}

/// The inner service has died, or the runtime that was running the call has.
///
/// The first request that meets a failing `poll_ready` gets the inner's own error; every later one
/// through the same service gets this, with the text of that error as its [`source`](Error::source).
/// Unlike [`Rejected`] it makes no promise about retries: a call cut off by the end of its runtime had
/// been started.
#[derive(Clone, Debug)]
pub struct ServiceError {
    cause: Cause,
}

impl ServiceError {
    pub(crate) fn new(text: Arc<str>) -> Self {
        Self { cause: Cause(text) }
    }

    pub(crate) fn runtime_ended() -> Self {
        Self::new(Arc::from("the runtime shut down while the call was running"))
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner service failed")
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// The text of the error the inner died of; the error itself went to the request that met it.
#[derive(Clone)]
struct Cause(Arc<str>);

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Cause {}

/// A setting of the [`Builder`](crate::Builder) that is not possible: which, its value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) allowed: String,
}

impl BuildError {
    pub(crate) fn new(setting: &'static str, value: impl ToString, allowed: impl ToString) -> Self {
        Self { setting, value: value.to_string(), allowed: allowed.to_string() }
    }

    /// Returns the name of the setting, which is the name of the builder's method.
    #[must_use]
    pub fn setting(&self) -> &str {
        self.setting
    }

    /// Returns the value that was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns what would have been allowed.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, allowed } = self;
        write!(f, "invalid `{setting}`: {value}, expected {allowed}")
    }
}

impl Error for BuildError {}
