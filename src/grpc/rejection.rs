//! Rejections as gRPC statuses.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use tower::{BoxError, Layer};

use crate::{
    error::{Reason, Rejected},
    http::{Answer, Answered, RejectionBody, Sealed},
};

/// Turns the errors of a stack into gRPC responses without messages ("trailers-only"). Put the
/// layer outside of the leveler.
///
/// A rejected request is answered with `UNAVAILABLE`, which clients may retry, or with
/// `RESOURCE_EXHAUSTED` if the request's own flow had [used up its share](Rejected::is_over_share).
/// [`status`](Self::status) sets another code. The message is the text of the reason.
/// `grpc-retry-pushback-ms` carries the time after which to retry, in milliseconds, if known.
///
/// Other errors go to [`on_error`](Self::on_error): by default `INTERNAL` without details, and an
/// event at `warn`.
///
/// The body of responses becomes a [`RejectionBody`]: the inner's or an empty one, so the inner's
/// body type does not matter.
#[derive(Clone)]
pub struct RejectionLayer<E = Internal> {
    codes: Vec<(Reason, u8)>,
    on_error: E,
}

/// Answers errors other than rejections with a status code and a message.
///
/// Implemented for closures `Fn(BoxError) -> (u8, String)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a gRPC status from an error",
    label = "no answer to errors",
    note = "write a closure that returns a code and a message: \
            `RejectionLayer::new().on_error(|error: BoxError| (13, error.to_string()))`"
)]
pub trait ErrorStatus {
    /// Returns the code, as numbered by the gRPC protocol, and the message.
    fn status(&self, error: BoxError) -> (u8, String);
}

/// The default [`ErrorStatus`]: `INTERNAL` without a message, and the error in an event at `warn`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Internal;

const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

impl RejectionLayer {
    /// Returns a layer with the default answers.
    #[must_use]
    pub fn new() -> Self {
        Self { codes: Vec::new(), on_error: Internal }
    }
}

impl Default for RejectionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> RejectionLayer<E> {
    /// Sets the status code for one reason, as numbered by the gRPC protocol: for example 4
    /// (`DEADLINE_EXCEEDED`) for [`Reason::Deadline`]. Default is 14 (`UNAVAILABLE`), or 8
    /// (`RESOURCE_EXHAUSTED`) for a flow over its share.
    #[must_use]
    pub fn status(mut self, reason: Reason, code: u8) -> Self {
        self.codes.retain(|(other, _)| *other != reason);
        self.codes.push((reason, code));
        self
    }

    /// Sets the answer to errors other than rejections: errors of the inner service, and of layers
    /// in between. Default is `INTERNAL` without details.
    #[must_use]
    pub fn on_error<F: ErrorStatus>(self, on_error: F) -> RejectionLayer<F> {
        RejectionLayer { codes: self.codes, on_error }
    }

    /// Returns the response to a rejection, to answer without the layer. The body is empty.
    ///
    /// A handler of tonic needs a `Status`, and finds it in the headers:
    ///
    /// ```
    /// use tonic::Status;
    /// use tower::BoxError;
    /// use tower_load_leveling::{error::Rejected, grpc::RejectionLayer};
    ///
    /// fn status(error: &BoxError) -> Status {
    ///     let rejected = error.downcast_ref::<Rejected>();
    ///     let response = rejected.map(|rejected| RejectionLayer::new().response(rejected));
    ///     response
    ///         .and_then(|response| Status::from_header_map(response.headers()))
    ///         .unwrap_or_else(|| Status::internal("failed"))
    /// }
    /// # use tower_load_leveling::error::Reason;
    /// # assert_eq!(status(&Rejected::new(Reason::Full).into()).code(), tonic::Code::Unavailable);
    /// ```
    #[must_use]
    pub fn response(&self, rejected: &Rejected) -> Response<String> {
        let set = self.codes.iter().find(|(reason, _)| *reason == rejected.reason());
        let code = match set {
            Some((_, code)) => *code,
            None if rejected.is_over_share() => RESOURCE_EXHAUSTED,
            None => UNAVAILABLE,
        };
        let mut response = trailers_only(code, &rejected.reason().to_string());
        if let Some(after) = rejected.retry_after() {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
            let name = HeaderName::from_static("grpc-retry-pushback-ms");
            response.headers_mut().insert(name, millis.into());
        }
        response
    }
}

impl<S, E: Clone> Layer<S> for RejectionLayer<E> {
    type Service = Answered<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered::new(inner, Arc::new(self.clone()))
    }
}

impl<E> Sealed for RejectionLayer<E> {}

impl<E: ErrorStatus> Answer for RejectionLayer<E> {
    type Kept = ();

    #[inline]
    fn keep<R>(&self, _: &Request<R>) {}

    fn rejected<B>(&self, rejected: &Rejected, (): &()) -> Response<RejectionBody<B>> {
        self.response(rejected).map(|_| RejectionBody::default())
    }

    fn failed<B>(&self, error: BoxError) -> Response<RejectionBody<B>> {
        let (code, message) = self.on_error.status(error);
        trailers_only(code, &message).map(|_| RejectionBody::default())
    }
}

fn trailers_only(code: u8, message: &str) -> Response<String> {
    let mut response = Response::new(String::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), u16::from(code).into());
    if let Ok(message) = HeaderValue::try_from(encoded(message)) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}

/// Percent-encodes a message as the protocol demands: everything but printable ASCII, and the
/// percent sign.
fn encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[diagnostic::do_not_recommend]
impl<F> ErrorStatus for F
where
    F: Fn(BoxError) -> (u8, String),
{
    fn status(&self, error: BoxError) -> (u8, String) {
        self(error)
    }
}

impl ErrorStatus for Internal {
    fn status(&self, error: BoxError) -> (u8, String) {
        tracing::warn!(error = &*error as &dyn std::error::Error, "request failed");
        (INTERNAL, String::new())
    }
}

impl<E> fmt::Debug for RejectionLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { codes, on_error: _ } = self;
        f.debug_struct("RejectionLayer").field("codes", codes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded() {
        assert_eq!(encoded("100 % of é\n"), "100 %25 of %C3%A9%0A");
    }
}
