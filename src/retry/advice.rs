//! Advice on whether to retry, and when.

#[cfg(feature = "http")]
use std::time::SystemTime;
use std::{any::Any, time::Duration};

#[cfg(feature = "http")]
use http::{HeaderMap, StatusCode};
use tower::BoxError;

#[cfg(feature = "http")]
use super::headers::{self, Pushback};
use crate::error::{Reason, Rejected, find_rejected};
#[cfg(feature = "http")]
use crate::rng::draw;

/// The codes of gRPC statuses that mean a refusal.
#[cfg(feature = "http")]
const RESOURCE_EXHAUSTED: i32 = 8;
#[cfg(feature = "http")]
const UNAVAILABLE: i32 = 14;

/// The spread of times from `Retry-After`, upwards: a share of the time, and the maximum. Clients
/// told the same second, or the same date, would otherwise all return at that instant.
#[cfg(feature = "http")]
const SPREAD: f64 = 0.1;
#[cfg(feature = "http")]
const MAX_SPREAD: Duration = Duration::from_secs(1);

/// The advice of a refusal on when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Do not retry.
    Never,
    /// Retry after this time.
    After(Duration),
    /// Retry after a backoff, since the refusal has no time.
    Backoff,
}

impl Advice {
    /// Returns the advice of a leveler's rejection.
    ///
    /// The advice is never to retry if the leveler is closed or has no runtime, and if the deadline
    /// of the request has passed or is shorter than a call.
    #[must_use]
    pub fn from_rejected(rejected: &Rejected) -> Self {
        match (rejected.reason(), rejected.retry_after()) {
            (Reason::Closed | Reason::NoRuntime | Reason::Deadline, _) => Self::Never,
            (Reason::WouldMissDeadline, None) => Self::Never,
            // Until the first call has ended, the drain time of the queue is unknown.
            (_, None) => Self::Backoff,
            (_, Some(after)) => Self::after(after),
        }
    }

    /// Returns the advice of a response by its head; `None` if the response is not a refusal.
    ///
    /// 503 (Service Unavailable) and 429 (Too Many Requests) are refusals. `Retry-After` is a
    /// number of seconds or a date, relative to the response's own `Date` if present. Up to 10 %
    /// and up to one second are added at random. Without a valid `Retry-After`, and for a time of
    /// zero or in the past, the advice is to back off.
    ///
    /// [`from_grpc`](Self::from_grpc) reads a gRPC response instead.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn from_http(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if headers::is_grpc(headers) {
            let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
            return Self::from_grpc(code, headers);
        }
        let is_refusal =
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        is_refusal.then(|| match headers::retry_after(headers, SystemTime::now()) {
            Some(after) => Self::after(spread(after, draw())),
            None => Self::Backoff,
        })
    }

    /// Returns the advice of a gRPC status, by its code and metadata; `None` if the status is not a
    /// refusal.
    ///
    /// `UNAVAILABLE` (14) is a refusal, and so is `RESOURCE_EXHAUSTED` (8) with
    /// `grpc-retry-pushback-ms`. A pushback of 0 means at once, and a negative or malformed
    /// pushback means never (gRFC A6).
    ///
    /// For the typed calls of a tonic client:
    ///
    /// ```
    /// use tonic::Status;
    /// use tower_load_leveling::retry::{Advice, RetryPolicy};
    ///
    /// #[derive(Clone)]
    /// struct HelloRequest;
    /// struct HelloReply;
    ///
    /// let policy = RetryPolicy::new().advice(
    ///     |_: &HelloRequest, result: Result<&HelloReply, &Status>| {
    ///         let status = result.err()?;
    ///         let metadata = status.metadata().clone().into_headers();
    ///         Advice::from_grpc(status.code().into(), &metadata)
    ///     },
    /// );
    /// # drop(policy);
    /// ```
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn from_grpc(code: i32, metadata: &HeaderMap) -> Option<Self> {
        match (code, headers::pushback(metadata)) {
            (UNAVAILABLE, Pushback::None) => Some(Self::Backoff),
            (UNAVAILABLE | RESOURCE_EXHAUSTED, Pushback::Never) => Some(Self::Never),
            (UNAVAILABLE | RESOURCE_EXHAUSTED, Pushback::After(after)) => Some(Self::After(after)),
            _ => None,
        }
    }

    /// Returns the advice to retry after a time. Zero means that the time is unknown.
    fn after(after: Duration) -> Self {
        if after.is_zero() { Self::Backoff } else { Self::After(after) }
    }
}

#[cfg(feature = "http")]
fn spread(after: Duration, random: f64) -> Duration {
    let spread = after.min(MAX_SPREAD.mul_f64(1.0 / SPREAD)).mul_f64(SPREAD * random);
    after.saturating_add(spread)
}

/// Tells refusals from other results, and reads the advice in them.
///
/// Closures `Fn(&Req, Result<&Res, &E>) -> Option<Advice>` implement the trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` gives no advice on results of the types `{Res}` and `{E}`",
    label = "does not read refusals",
    note = "for `http::Request` and `http::Response` write `RetryPolicy::new().http()`, for other \
            types a closure: `.advice(|_: &{Req}, result: Result<&{Res}, &{E}>| None)`"
)]
pub trait RetryAdvice<Req, Res, E> {
    /// Returns the advice of a refusal; `None` if the result is not a refusal.
    fn advice(&self, request: &Req, result: Result<&Res, &E>) -> Option<Advice>;
}

#[diagnostic::do_not_recommend]
impl<F, Req, Res, E> RetryAdvice<Req, Res, E> for F
where
    F: Fn(&Req, Result<&Res, &E>) -> Option<Advice>,
{
    fn advice(&self, request: &Req, result: Result<&Res, &E>) -> Option<Advice> {
        self(request, result)
    }
}

/// The default [`RetryAdvice`]: the advice of a [`Rejected`], found as the error itself, in a
/// [`BoxError`], and among the sources of a [`BoxError`]. Other results are not refusals.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RejectionAdvice;

impl<Req, Res, E: 'static> RetryAdvice<Req, Res, E> for RejectionAdvice {
    fn advice(&self, _: &Req, result: Result<&Res, &E>) -> Option<Advice> {
        rejected(result.err()?).map(Advice::from_rejected)
    }
}

/// Returns the rejection in an error of any type.
pub(super) fn rejected(error: &dyn Any) -> Option<&Rejected> {
    match error.downcast_ref::<BoxError>() {
        Some(boxed) => find_rejected(&**boxed),
        None => error.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_advises_by_its_time_and_reason() {
        let advice = |reason, after: Option<u64>| {
            let rejected = Rejected::new(reason);
            let with = |ms| rejected.clone().with_retry_after(Duration::from_millis(ms));
            Advice::from_rejected(&after.map_or(rejected.clone(), with))
        };
        let after = Advice::After(Duration::from_millis(70));
        for reason in Reason::ALL {
            let is_pointless =
                matches!(reason, Reason::Closed | Reason::NoRuntime | Reason::Deadline);
            let expected = if is_pointless { Advice::Never } else { after };
            assert_eq!(advice(*reason, Some(70)), expected, "{reason}");
        }
        assert_eq!(advice(Reason::Full, None), Advice::Backoff);
        assert_eq!(advice(Reason::Full, Some(0)), Advice::Backoff);
        assert_eq!(advice(Reason::WouldMissDeadline, None), Advice::Never);
    }

    #[cfg(feature = "http")]
    #[test]
    fn clients_told_the_same_time_come_back_spread_and_never_earlier() {
        let seconds = Duration::from_secs;
        assert_eq!(spread(seconds(2), 0.0), seconds(2));
        assert_eq!(spread(seconds(2), 1.0), Duration::from_millis(2200));
        assert_eq!(spread(seconds(60), 1.0), seconds(61));
        assert_eq!(spread(Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(spread(Duration::ZERO, 1.0), Duration::ZERO);
    }

    #[cfg(feature = "http")]
    #[test]
    fn only_some_statuses_are_refusals() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", http::HeaderValue::from_static("0"));
        for (status, is_refusal) in
            [(200, false), (404, false), (429, true), (500, false), (502, false), (503, true)]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            let advice = Advice::from_http(status, &headers);
            assert_eq!(advice, is_refusal.then_some(Advice::Backoff), "{status}");
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_pushback_is_obeyed_as_the_protocol_says() {
        let value = http::HeaderValue::from_static;
        let millis = |millis| Some(Advice::After(Duration::from_millis(millis)));
        for (code, pushback, expected) in [
            ("14", Some("250"), millis(250)),
            ("14", Some("0"), millis(0)),
            ("14", Some("-1"), Some(Advice::Never)),
            ("14", Some("soon"), Some(Advice::Never)),
            ("14", Some(""), Some(Advice::Never)),
            ("14", Some("99999999999999999999999"), Some(Advice::Never)),
            ("14", None, Some(Advice::Backoff)),
            ("8", Some("250"), millis(250)),
            ("8", None, None),
            ("4", Some("250"), None),
            ("0", None, None),
        ] {
            let mut head = HeaderMap::new();
            head.insert("content-type", value("application/grpc+proto"));
            head.insert("grpc-status", value(code));
            if let Some(pushback) = pushback {
                head.insert("grpc-retry-pushback-ms", value(pushback));
            }
            let advice = Advice::from_http(StatusCode::OK, &head);
            assert_eq!(advice, expected, "{code} {pushback:?}");
        }
        // With messages the status comes later.
        let mut head = HeaderMap::new();
        head.insert("content-type", value("application/grpc"));
        assert_eq!(Advice::from_http(StatusCode::OK, &head), None);
    }
}
