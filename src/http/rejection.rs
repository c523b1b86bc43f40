//! Rejections as HTTP responses.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use tower::{BoxError, Layer};

use super::answered::{Answer, Answered, Sealed};
use crate::{
    error::{Reason, Rejected},
    rng::mix,
};

/// Turns the errors of a stack into responses. Put the layer outside of the leveler.
///
/// A rejected request is answered with 503 (Service Unavailable), or with 429 (Too Many Requests)
/// if the request's own flow had [used up its share](Rejected::is_over_share). `Retry-After`
/// carries the time after which to retry, in whole seconds and at least 1. If
/// [`Rejected::retry_after`] is unknown, the header says about 1. The times are spread, to keep
/// rejected callers from returning all together. Internal numbers are not revealed.
///
/// Other errors go to [`on_error`](Self::on_error): by default 500 without details, and an event at
/// `warn`.
///
/// ```
/// use http::{HeaderName, StatusCode};
/// use tower_load_leveling::{error::Reason, http::{PlainText, RejectionLayer}};
///
/// let rejections = RejectionLayer::new()
///     .status(Reason::Evicted, StatusCode::TOO_MANY_REQUESTS)
///     .reason_header(HeaderName::from_static("x-rejected"))
///     .body(PlainText);
/// # drop(rejections);
/// ```
#[derive(Clone)]
pub struct RejectionLayer<M = Empty, E = InternalServerError> {
    statuses: Vec<(Reason, StatusCode)>,
    over_share: StatusCode,
    reason_header: Option<HeaderName>,
    body: M,
    on_error: E,
}

/// Makes the body of a rejection's response.
///
/// The body type `B` must be constructible: [`Empty`] needs `B: Default`, the others need
/// `B: From<String>`. `axum::body::Body` and `http_body_util::Full<Bytes>` implement both. `B` is
/// the body type of the service inside of the [`RejectionLayer`]. For another body type, such as a
/// `BoxBody`, box the body made by one of these:
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{HeaderValue, Response, StatusCode};
/// use http_body_util::{BodyExt, Full, combinators::BoxBody};
/// use tower_load_leveling::{
///     error::Rejected,
///     http::{ProblemJson, RefusalBody, RejectionLayer},
/// };
///
/// #[derive(Clone)]
/// struct Boxed;
///
/// impl RefusalBody<BoxBody<Bytes, Infallible>> for Boxed {
///     fn make(
///         &self,
///         rejected: &Rejected,
///         status: StatusCode,
///     ) -> (Option<HeaderValue>, BoxBody<Bytes, Infallible>) {
///         let (content_type, body): (_, Full<Bytes>) = ProblemJson.make(rejected, status);
///         (content_type, body.boxed())
///     }
/// }
///
/// let rejections = RejectionLayer::new().body(Boxed);
/// # use tower::{BoxError, ServiceBuilder, service_fn};
/// # use tower_load_leveling::LoadLevelLayer;
/// # let inner = service_fn(|_: http::Request<()>| async {
/// #     Ok::<_, Infallible>(Response::new(Full::<Bytes>::default().boxed()))
/// # });
/// # let leveler = LoadLevelLayer::new(1, 1);
/// # let stack = ServiceBuilder::new().layer(rejections).layer(leveler).service(inner);
/// # fn is_service(_: impl tower::Service<http::Request<()>>) {}
/// # is_service(stack);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make a body of the type `{B}`",
    label = "makes no `{B}`",
    note = "`http::Empty` needs `B: Default`, `http::PlainText` and `http::ProblemJson` need \
            `B: From<String>`: as `axum::body::Body` and `http_body_util::Full<Bytes>` are",
    note = "right inside of the `RejectionLayer` turn the body into one of those: \
            `.map_response(|response: Response<_>| response.map(axum::body::Body::new))`",
    note = "or box what they make, in a `RefusalBody<B>` of your own: its docs have an example"
)]
pub trait RefusalBody<B> {
    /// Returns the content type, if any, and the body.
    fn make(&self, rejected: &Rejected, status: StatusCode) -> (Option<HeaderValue>, B);
}

/// An empty body.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Empty;

/// The text of the reason as `text/plain`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written by its name")]
pub struct PlainText;

/// A problem in `application/problem+json`, of the type `about:blank` (RFC 9457).
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written by its name")]
pub struct ProblemJson;

/// Answers errors other than rejections.
///
/// Implemented for closures `Fn(BoxError) -> Response<B>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer an error with a body of the type `{B}`",
    label = "makes no `Response<{B}>` from an error",
    note = "the default answer needs `B: Default`; for another body write the answer: \
            `RejectionLayer::new().on_error(|error: BoxError| -> Response<{B}> {{ .. }})`",
    note = "or right inside of the `RejectionLayer` turn the body into one with a default: \
            `.map_response(|response: Response<_>| response.map(axum::body::Body::new))`"
)]
pub trait ErrorResponse<B> {
    /// Returns the response to `error`.
    fn respond(&self, error: BoxError) -> Response<B>;
}

/// The default [`ErrorResponse`]: 500 without details, and the error in an event at `warn`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct InternalServerError;

impl RejectionLayer {
    /// Returns a layer with the default statuses, without a body.
    #[must_use]
    pub fn new() -> Self {
        Self {
            statuses: Vec::new(),
            over_share: StatusCode::TOO_MANY_REQUESTS,
            reason_header: None,
            body: Empty,
            on_error: InternalServerError,
        }
    }
}

impl Default for RejectionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, E> RejectionLayer<M, E> {
    /// Sets the status for one reason. Default is 503, or
    /// [`over_share_status`](Self::over_share_status) for a flow over its share.
    #[must_use]
    pub fn status(mut self, reason: Reason, status: StatusCode) -> Self {
        self.statuses.retain(|(other, _)| *other != reason);
        self.statuses.push((reason, status));
        self
    }

    /// Sets the status for a request whose own flow had used up its share. A status set for the
    /// reason takes precedence. Default is 429.
    #[must_use]
    pub fn over_share_status(mut self, status: StatusCode) -> Self {
        self.over_share = status;
        self
    }

    /// Sets the name of a header for the reason, in snake case. Default is no such header.
    #[must_use]
    pub fn reason_header(mut self, name: HeaderName) -> Self {
        self.reason_header = Some(name);
        self
    }

    /// Sets the body of rejections: [`Empty`], [`PlainText`], [`ProblemJson`] or your own. Default
    /// is `Empty`.
    ///
    /// The body type of the service inside must be `From<String>` for `PlainText` and
    /// `ProblemJson`, and `Default` for `Empty` and for the default of
    /// [`on_error`](Self::on_error). For other body types see [`RefusalBody`].
    #[must_use]
    pub fn body<N>(self, body: N) -> RejectionLayer<N, E> {
        let Self { statuses, over_share, reason_header, body: _, on_error } = self;
        RejectionLayer { statuses, over_share, reason_header, body, on_error }
    }

    /// Sets the answer to errors other than rejections: errors of the inner service, and of layers
    /// in between. Default is 500 without details.
    #[must_use]
    pub fn on_error<F>(self, on_error: F) -> RejectionLayer<M, F> {
        let Self { statuses, over_share, reason_header, body, on_error: _ } = self;
        RejectionLayer { statuses, over_share, reason_header, body, on_error }
    }
}

impl<S, M: Clone, E: Clone> Layer<S> for RejectionLayer<M, E> {
    type Service = Answered<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered::new(inner, Arc::new(self.clone()))
    }
}

impl<M, E> Sealed for RejectionLayer<M, E> {}

impl<M, E, B> Answer<B> for RejectionLayer<M, E>
where
    M: RefusalBody<B>,
    E: ErrorResponse<B>,
{
    fn rejected(&self, rejected: &Rejected) -> Response<B> {
        let set = self.statuses.iter().find(|(reason, _)| *reason == rejected.reason());
        let status = match set {
            Some((_, status)) => *status,
            None if rejected.is_over_share() => self.over_share,
            None => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (content_type, body) = self.body.make(rejected, status);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, retry_after(rejected).into());
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(name) = &self.reason_header {
            headers.insert(name, HeaderValue::from_static(rejected.reason().as_str()));
        }
        response
    }

    fn failed(&self, error: BoxError) -> Response<B> {
        self.on_error.respond(error)
    }
}

/// Returns whole seconds, at least 1. Rounds up or down at random, in proportion to the fraction:
/// many callers told the same second would all return in it.
fn retry_after(rejected: &Rejected) -> u64 {
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let draw = || mix(DRAWS.fetch_add(1, Relaxed)) as f64 / u64::MAX as f64;
    let after = rejected.retry_after().unwrap_or_default().as_secs_f64();
    // Longer times are already spread by 20 % either way. The spread of shorter times would be lost
    // in rounding to 1.
    let after = if after < 1.0 { 1.0 + SPREAD * draw() } else { after };
    (after + draw()) as u64
}

/// In seconds. As wide as the spread of longer times (20 % either way), but upwards only, since 1
/// is the minimum.
const SPREAD: f64 = 0.4;

#[diagnostic::do_not_recommend]
impl<B: Default> RefusalBody<B> for Empty {
    fn make(&self, _: &Rejected, _: StatusCode) -> (Option<HeaderValue>, B) {
        (None, B::default())
    }
}

#[diagnostic::do_not_recommend]
impl<B: From<String>> RefusalBody<B> for PlainText {
    fn make(&self, rejected: &Rejected, _: StatusCode) -> (Option<HeaderValue>, B) {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        (Some(content_type), format!("{}\n", rejected.reason()).into())
    }
}

#[diagnostic::do_not_recommend]
impl<B: From<String>> RefusalBody<B> for ProblemJson {
    fn make(&self, rejected: &Rejected, status: StatusCode) -> (Option<HeaderValue>, B) {
        let content_type = HeaderValue::from_static("application/problem+json");
        let title = status.canonical_reason().unwrap_or("Rejected");
        // Neither text has a character that JSON would escape.
        let (status, detail) = (status.as_u16(), rejected.reason());
        let problem = format!(
            r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}"}}"#
        );
        (Some(content_type), problem.into())
    }
}

#[diagnostic::do_not_recommend]
impl<F, B> ErrorResponse<B> for F
where
    F: Fn(BoxError) -> Response<B>,
{
    fn respond(&self, error: BoxError) -> Response<B> {
        self(error)
    }
}

#[diagnostic::do_not_recommend]
impl<B: Default> ErrorResponse<B> for InternalServerError {
    fn respond(&self, error: BoxError) -> Response<B> {
        tracing::warn!(error = &*error as &dyn std::error::Error, "request failed");
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }
}

impl<M, E> fmt::Debug for RejectionLayer<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statuses, over_share, reason_header, body: _, on_error: _ } = self;
        f.debug_struct("RejectionLayer")
            .field("statuses", statuses)
            .field("over_share", over_share)
            .field("reason_header", reason_header)
            .finish_non_exhaustive()
    }
}
