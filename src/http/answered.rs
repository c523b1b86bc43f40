//! A service that answers every error with a response.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::rejection_body::RejectionBody;
use crate::error::{Rejected, find_rejected};

/// Makes responses from errors. Implemented by the two rejection layers, and sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer errors",
    label = "makes no responses",
    note = "`.body(..)` takes `http::PlainText`, `http::ProblemJson`, or a closure with the types \
            of its parameters: `|refusal: &Refusal<'_>, request: &Parts| refusal.plain_text()`",
    note = "`.on_error(..)` takes a closure that returns a response with any `http_body::Body`: \
            `|error: BoxError| -> Response<String> {{ .. }}`"
)]
pub trait Answer: Sealed {
    /// The part of a request kept until the response.
    #[doc(hidden)]
    type Kept;

    /// Returns the part of a request for [`rejected`](Self::rejected).
    #[doc(hidden)]
    fn keep<R>(&self, request: &Request<R>) -> Self::Kept;

    /// Returns the response to a request that the leveler rejected.
    #[doc(hidden)]
    fn rejected<B>(&self, rejected: &Rejected, kept: &Self::Kept) -> Response<RejectionBody<B>>;

    /// Returns the response to a request that met another error.
    #[doc(hidden)]
    fn failed<B>(&self, error: BoxError) -> Response<RejectionBody<B>>;
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {}
}
pub(crate) use self::sealed::Sealed;

/// A service that answers every error with a response. Made by
/// [`RejectionLayer`](super::RejectionLayer).
///
/// The service never fails. If the inner `poll_ready` fails, the next call is answered with the
/// response to the error of `poll_ready`. A rejection is found anywhere in the chain of sources of
/// an error.
///
/// # Cancel safety
///
/// The same as the inner service.
pub struct Answered<S, A> {
    inner: S,
    answers: Arc<A>,
    /// The error of `poll_ready`, for the next call.
    failed: Option<BoxError>,
}

impl<S, A> Answered<S, A> {
    pub(crate) fn new(inner: S, answers: Arc<A>) -> Self {
        Self { inner, answers, failed: None }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, A, R, B> Service<Request<R>> for Answered<S, A>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    A: Answer,
{
    type Response = Response<RejectionBody<B>>;
    type Error = Infallible;
    type Future = AnsweredFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.failed.is_none() {
            if let Err(error) = ready!(self.inner.poll_ready(cx)) {
                self.failed = Some(error.into());
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let answers = Arc::clone(&self.answers);
        let kept = answers.keep(&request);
        let state = match self.failed.take() {
            Some(error) => State::Failed { error: Some(error) },
            None => State::Called { future: self.inner.call(request) },
        };
        AnsweredFuture { state, answers, kept }
    }
}

pin_project! {
    /// Resolves to the response of the inner service, or to the response to its error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct AnsweredFuture<F, A: Answer> {
        #[pin]
        state: State<F>,
        answers: Arc<A>,
        kept: A::Kept,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] future: F },
        Failed { error: Option<BoxError> },
    }
}

impl<F, A, B, E> Future for AnsweredFuture<F, A>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    A: Answer,
{
    type Output = Result<Response<RejectionBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match this.state.project() {
            StateProj::Called { future } => match ready!(future.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response.map(RejectionBody::from_inner))),
                Err(error) => error.into(),
            },
            // If polled after completion, stay pending.
            StateProj::Failed { error } => match error.take() {
                Some(error) => error,
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(match find_rejected(&*error) {
            Some(rejected) => this.answers.rejected(rejected, this.kept),
            None => this.answers.failed(error),
        }))
    }
}

/// A clone starts without the error of the original's `poll_ready`.
impl<S: Clone, A> Clone for Answered<S, A> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.answers))
    }
}

impl<S: fmt::Debug, A: fmt::Debug> fmt::Debug for Answered<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, answers, failed } = self;
        f.debug_struct("Answered")
            .field("inner", inner)
            .field("answers", answers)
            .field("failed", failed)
            .finish()
    }
}

impl<F, A: Answer> fmt::Debug for AnsweredFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnsweredFuture").finish_non_exhaustive()
    }
}
