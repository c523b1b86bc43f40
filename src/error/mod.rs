//! The errors of a call: rejections, and failures of the inner service.
//!
//! The error type of the [`LoadLevel`](crate::LoadLevel) service is [`BoxError`]. Errors of the
//! inner service pass through unwrapped. The crate adds two errors of its own, found by
//! `downcast_ref`:
//!
//! - [`Rejected`]: the layer refused or removed the request *before* the inner service saw it.
//!   Nothing was started; a retry is safe.
//! - [`ServiceError`]: the inner service has died, or the runtime of the call has ended.
//!
//! [`Refused`] is the error of [`LoadLevel::try_call`](crate::LoadLevel::try_call) and hands the
//! request back. [`BuildError`] names an invalid setting of the [`Builder`](crate::Builder), and
//! [`ParseError`] a word that names no value.

mod chain;
pub(crate) mod parse;
mod reason;

use std::{error::Error, fmt, sync::Arc, time::Duration};

pub use tower::BoxError;

pub(crate) use self::chain::sources;
pub use self::{parse::ParseError, reason::Reason};
use crate::retry_after::RetryAfter;

/// The error of a request refused or removed by the layer before the inner service saw it.
///
/// The request was **never started**: a retry is safe, even if the request is not idempotent.
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
    /// Returns a rejection for this reason: no time to retry, nothing waited, nothing queued, limit
    /// 0, not over its share. The methods `with_…` set these.
    ///
    /// For tests of code that handles rejections. The service of a test returns the rejection in
    /// place of a leveler:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{BoxError, ServiceExt, service_fn};
    /// use tower_load_leveling::error::{Reason, Rejected};
    ///
    /// /// Returns the time to wait for the next attempt, if there should be one.
    /// fn backoff(error: &BoxError) -> Option<Duration> {
    ///     error.downcast_ref::<Rejected>()?.retry_after()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let after = Duration::from_secs(2);
    /// let busy = service_fn(move |_: ()| async move {
    ///     Err::<(), BoxError>(Rejected::new(Reason::Full).with_retry_after(after).into())
    /// });
    /// let error = busy.oneshot(()).await.expect_err("rejected");
    /// assert_eq!(backoff(&error), Some(after));
    /// # }
    /// ```
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        let (retry_after, waited) = (RetryAfter::NEVER, Duration::ZERO);
        Self { reason, retry_after, waited, queued: 0, limit: 0, over_share: false }
    }

    /// Sets the time after which a retry makes sense. [`retry_after`](Self::retry_after) returns
    /// exactly this time, without spread or upper bound. Default is unknown.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = RetryAfter::exactly(after);
        self
    }

    /// Sets the wait of the request. Default is zero.
    #[must_use]
    pub fn with_waited(mut self, waited: Duration) -> Self {
        self.waited = waited;
        self
    }

    /// Sets how many requests were waiting. Default is 0.
    #[must_use]
    pub fn with_queued(mut self, queued: usize) -> Self {
        self.queued = queued;
        self
    }

    /// Sets the limit. Default is 0.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets whether the request's own flow had used up its share. Default is `false`.
    #[must_use]
    pub fn with_over_share(mut self, over_share: bool) -> Self {
        self.over_share = over_share;
        self
    }

    /// Returns the reason for the rejection.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the time after which a retry makes sense: the time until the present queue has
    /// drained.
    ///
    /// The drain time comes from the recent rate of finished calls. Until a rate is known, the
    /// limit and the mean time for which calls keep their slots give the drain time. The result is
    /// spread by ±20 %, to keep rejected callers from returning all together. The upper bound is a
    /// minute. If the priority is cut off, the lower bound is about a second.
    ///
    /// Requests that wait for an unready inner, or for a call of their own flow, do not count. But
    /// with a [`flow_limit`](crate::Builder::flow_limit) the time is not shorter than the wait for
    /// the requests of the flow.
    ///
    /// Returns `None` until a call has finished, and if a retry is pointless: for
    /// [`Reason::Closed`], for [`Reason::NoRuntime`], and for [`Reason::WouldMissDeadline`] with a
    /// deadline shorter than a call.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after.get()
    }

    /// Returns the wait of the request; zero if the request was refused on arrival.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns how many requests were waiting at the time of the rejection.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the limit at the time of the rejection.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns whether the request's own [flow](crate::Class::flow) had used up its share.
    ///
    /// For a request refused as [`Full`](Reason::Full), true means one of two things. Either other
    /// flows of the priority were waiting, and the flow had at least the part of the waiting
    /// requests that is due by the [weights](crate::Class::weight) of the waiting flows. The count
    /// is exact, by costs, as of the refusal, and without the refused request. So a flow with less
    /// than its share is not told otherwise, however many flows wait. Or the flow ran as much as
    /// [`Builder::flow_limit`](crate::Builder::flow_limit) allows, or waited for room for a
    /// request of greater cost, as of a moment before.
    ///
    /// For a request [`Evicted`](Reason::Evicted) in favour of another flow of the priority, the
    /// same holds with the evicted request counted in. Otherwise the answer is false, and also for
    /// a few of those over their share while hundreds of flows wait: one in 50 of 1000 flows.
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

/// Returns the rejection among an error and its sources, if any.
#[cfg(any(feature = "http", feature = "retry"))]
pub(crate) fn find_rejected<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Rejected> {
    sources(error).find_map(|error| error.downcast_ref())
}

/// The error of [`LoadLevel::try_call`](crate::LoadLevel::try_call): the refused request and the
/// [`Rejected`].
///
/// [`source`](Error::source) returns the [`Rejected`].
pub struct Refused<Req> {
    pub(crate) rejected: Rejected,
    pub(crate) request: Req,
}

impl<Req> Refused<Req> {
    /// Returns the rejection, with the reason and the time after which to retry.
    #[must_use]
    pub fn rejected(&self) -> &Rejected {
        &self.rejected
    }

    /// Returns the request, for a fallback or a retry.
    #[must_use]
    pub fn into_request(self) -> Req {
        self.request
    }

    /// Returns the rejection and the request.
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

/// The error of a call if the inner service has died, or the runtime of the call has ended.
///
/// The first request to meet a failing `poll_ready` gets the inner's own error. Every later request
/// through the same service gets a `ServiceError`, with the text of the inner's error as the
/// [`source`](Error::source). Unlike [`Rejected`], a `ServiceError` promises nothing about retries:
/// a call cut short by the end of its runtime had been started.
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

    pub(crate) fn broken_off() -> Self {
        Self::new(Arc::from("the call was lost in a panic, perhaps of a tracing subscriber"))
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

/// The text of the inner's fatal error. The error itself went to the request that met the error.
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

/// The error of an invalid setting of the [`Builder`](crate::Builder): name, value, and allowed
/// values.
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

    /// Returns the name of the setting: of the builder's method, or of the key in
    /// [`Settings`](crate::settings::Settings), such as `concurrency.min`.
    #[must_use]
    pub fn setting(&self) -> &str {
        self.setting
    }

    /// Returns the invalid value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns a description of the allowed values.
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
