//! The bodies of refusals.

use http::{Request, Response, request::Parts};
use http_body::Body;
use tower::BoxError;

use super::{refusal::Refusal, rejection_body::RejectionBody};

/// Makes the response to a rejected request. Sealed.
///
/// Implemented for [`Empty`], [`PlainText`] and [`ProblemJson`], and for closures
/// `Fn(&Refusal<'_>, &Parts) -> Response<T>` with any body `T`:
/// [`RejectionLayer::body`](super::RejectionLayer::body) has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make the body of a refusal",
    label = "no body of a refusal",
    note = "use `http::PlainText`, `http::ProblemJson`, or a closure that returns a response with \
            any `http_body::Body`, with the types of its parameters written out: \
            `.body(|refusal: &Refusal<'_>, request: &Parts| refusal.problem_json(None))`"
)]
pub trait RefusalBody: Sealed {
    /// The part of a request kept until the response.
    #[doc(hidden)]
    type Kept;

    /// Returns the part of a request for [`make`](Self::make).
    #[doc(hidden)]
    fn keep<R>(&self, request: &Request<R>) -> Self::Kept;

    /// Returns the response to a rejected request.
    #[doc(hidden)]
    fn make<B>(&self, refusal: &Refusal<'_>, kept: &Self::Kept) -> Response<RejectionBody<B>>;
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {}
}
use self::sealed::Sealed;

/// An empty body.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Empty;

/// The text of the refusal as `text/plain`: [`Refusal::plain_text`].
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written by its name")]
pub struct PlainText;

/// A problem in `application/problem+json` (RFC 9457): [`Refusal::problem_json`], without an
/// instance.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is written by its name")]
pub struct ProblemJson;

macro_rules! text_body {
    ($body:ident, $make:expr) => {
        impl Sealed for $body {}

        impl RefusalBody for $body {
            type Kept = ();

            #[inline]
            fn keep<R>(&self, _: &Request<R>) {}

            fn make<B>(&self, refusal: &Refusal<'_>, (): &()) -> Response<RejectionBody<B>> {
                let make: fn(&Refusal<'_>) -> Response<String> = $make;
                make(refusal).map(RejectionBody::from_body)
            }
        }
    };
}

text_body!(Empty, |refusal| refusal.empty());
text_body!(PlainText, |refusal| refusal.plain_text());
text_body!(ProblemJson, |refusal| refusal.problem_json(None));

impl<F, T> Sealed for F where F: Fn(&Refusal<'_>, &Parts) -> Response<T> {}

#[diagnostic::do_not_recommend]
impl<F, T> RefusalBody for F
where
    F: Fn(&Refusal<'_>, &Parts) -> Response<T>,
    T: Body<Error: Into<BoxError>> + Send + 'static,
{
    // In a box, since futures are moved.
    type Kept = Box<Parts>;

    fn keep<R>(&self, request: &Request<R>) -> Box<Parts> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method.clone_from(request.method());
        parts.uri.clone_from(request.uri());
        parts.version = request.version();
        parts.headers.clone_from(request.headers());
        parts.extensions.clone_from(request.extensions());
        Box::new(parts)
    }

    fn make<B>(&self, refusal: &Refusal<'_>, kept: &Box<Parts>) -> Response<RejectionBody<B>> {
        self(refusal, kept).map(RejectionBody::from_body)
    }
}
