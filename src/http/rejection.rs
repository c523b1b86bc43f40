//! Rejections as HTTP responses.

use std::{fmt, sync::Arc};

use http::{HeaderName, Request, Response, StatusCode};
use http_body::Body;
use tower::{BoxError, Layer};

use super::{
    answered::{Answer, Answered, Sealed},
    refusal::Refusal,
    refusal_body::{Empty, RefusalBody},
    rejection_body::RejectionBody,
};
use crate::error::{Reason, Rejected};

/// Turns the errors of a stack into responses. Put the layer outside of the leveler.
///
/// A rejected request is answered with 503 (Service Unavailable), or with 429 (Too Many Requests)
/// if the request's own flow had [used up its share](Rejected::is_over_share). `Retry-After`
/// carries the time after which to retry, in whole seconds and at least 1. If
/// [`Rejected::retry_after`] is unknown, the header says about 1. The times are spread, to keep
/// rejected callers from returning all together. Internal numbers are not revealed, and the reason
/// only with [`tell_reason`](Self::tell_reason) or [`reason_header`](Self::reason_header).
///
/// Other errors go to [`on_error`](Self::on_error): by default 500 without details, and an event at
/// `warn`.
///
/// The body of responses becomes a [`RejectionBody`]: the inner's or that of a refusal, so the
/// type of the inner's body does not matter. Layers of tower-http can stand on both sides.
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
    tells_reason: bool,
    body: M,
    on_error: E,
}

/// Answers errors other than rejections.
///
/// Implemented for closures `Fn(BoxError) -> Response<T>`, with any body `T`: a `String`, a
/// `Full<Bytes>`, an `axum::body::Body`, or the body of the inner service.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer an error with a response",
    label = "makes no `Response` from an error",
    note = "write a closure that returns a response with any `http_body::Body`: \
            `RejectionLayer::new().on_error(|error: BoxError| -> Response<String> {{ .. }})`",
    note = "in axum `.on_error(|error: BoxError| (status, text).into_response())`"
)]
pub trait ErrorResponse {
    /// The body of the response.
    type Body: Body<Error: Into<BoxError>> + Send + 'static;

    /// Returns the response to `error`.
    fn respond(&self, error: BoxError) -> Response<Self::Body>;
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
            tells_reason: false,
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

    /// Sets the name of a header for the reason, in snake case. The reason may then be told in the
    /// body too. Default is no such header.
    #[must_use]
    pub fn reason_header(mut self, name: HeaderName) -> Self {
        self.reason_header = Some(name);
        self.tells_reason = true;
        self
    }

    /// Sets whether the body tells the reason. A reason names a defence of the server, so tell
    /// trusted clients only. Default is `false`.
    #[must_use]
    pub fn tell_reason(mut self, tells: bool) -> Self {
        self.tells_reason = tells;
        self
    }

    /// Sets the body of rejections: [`Empty`], [`PlainText`](super::PlainText),
    /// [`ProblemJson`](super::ProblemJson) or a closure. Default is `Empty`.
    ///
    /// A closure gets the [`Refusal`] and the head of the request, and returns a response with any
    /// body. The layer replaces a status of 200 and adds a missing `Retry-After`. Write out the
    /// types of the closure's parameters:
    ///
    /// ```
    /// use http::{header::ACCEPT, request::Parts};
    /// use tower_load_leveling::http::{Refusal, RejectionLayer};
    ///
    /// let rejections = RejectionLayer::new().body(|refusal: &Refusal<'_>, request: &Parts| {
    ///     let accept = request.headers.get(ACCEPT).map_or(&[][..], |accept| accept.as_bytes());
    ///     let mut response = match accept.starts_with(b"text/") {
    ///         true => refusal.plain_text(),
    ///         false => refusal.problem_json(Some(request.uri.path())),
    ///     };
    ///     if let Some(id) = request.headers.get("x-request-id") {
    ///         response.headers_mut().insert("x-request-id", id.clone());
    ///     }
    ///     response
    /// });
    /// # drop(rejections);
    /// ```
    ///
    /// With a closure, the layer copies the head of each request before the call, extensions
    /// included, since a later refusal needs the head. With 10 headers a copy takes some 0.3 µs.
    /// The other bodies copy nothing.
    #[must_use]
    pub fn body<N>(self, body: N) -> RejectionLayer<N, E> {
        let Self { statuses, over_share, reason_header, tells_reason, body: _, on_error } = self;
        RejectionLayer { statuses, over_share, reason_header, tells_reason, body, on_error }
    }

    /// Sets the answer to errors other than rejections: errors of the inner service, and of layers
    /// in between. Default is 500 without details.
    #[must_use]
    pub fn on_error<F>(self, on_error: F) -> RejectionLayer<M, F> {
        let Self { statuses, over_share, reason_header, tells_reason, body, on_error: _ } = self;
        RejectionLayer { statuses, over_share, reason_header, tells_reason, body, on_error }
    }

    /// Returns the refusal that this layer makes of a rejection, to answer without the layer.
    #[must_use]
    pub fn refusal<'a>(&'a self, rejected: &'a Rejected) -> Refusal<'a> {
        let set = self.statuses.iter().find(|(reason, _)| *reason == rejected.reason());
        let refusal = Refusal::new(rejected);
        let status = match set {
            Some((_, status)) => *status,
            None if rejected.is_over_share() => self.over_share,
            None => refusal.status(),
        };
        refusal.with_status(status).with_reason(self.tells_reason, self.reason_header.as_ref())
    }
}

impl<S, M: Clone, E: Clone> Layer<S> for RejectionLayer<M, E> {
    type Service = Answered<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered::new(inner, Arc::new(self.clone()))
    }
}

impl<M, E> Sealed for RejectionLayer<M, E> {}

impl<M, E> Answer for RejectionLayer<M, E>
where
    M: RefusalBody,
    E: ErrorResponse,
{
    type Kept = M::Kept;

    #[inline]
    fn keep<R>(&self, request: &Request<R>) -> M::Kept {
        self.body.keep(request)
    }

    fn rejected<B>(&self, rejected: &Rejected, kept: &M::Kept) -> Response<RejectionBody<B>> {
        let refusal = self.refusal(rejected);
        refusal.complete(self.body.make(&refusal, kept))
    }

    fn failed<B>(&self, error: BoxError) -> Response<RejectionBody<B>> {
        self.on_error.respond(error).map(RejectionBody::from_body)
    }
}

#[diagnostic::do_not_recommend]
impl<F, T> ErrorResponse for F
where
    F: Fn(BoxError) -> Response<T>,
    T: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Body = T;

    fn respond(&self, error: BoxError) -> Response<T> {
        self(error)
    }
}

impl ErrorResponse for InternalServerError {
    type Body = String;

    fn respond(&self, error: BoxError) -> Response<String> {
        tracing::warn!(error = &*error as &dyn std::error::Error, "request failed");
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }
}

impl<M, E> fmt::Debug for RejectionLayer<M, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statuses, over_share, reason_header, tells_reason, body: _, on_error: _ } = self;
        f.debug_struct("RejectionLayer")
            .field("statuses", statuses)
            .field("over_share", over_share)
            .field("reason_header", reason_header)
            .field("tells_reason", tells_reason)
            .finish_non_exhaustive()
    }
}
