//! Names for groups of bounds. Each trait is implemented for every type within its bounds.

use tower::BoxError;
use tower_service::Service;

use crate::{
    classify::ClassifyResponse,
    limit::Outcome,
    respond::{Call, Responder, TrackCompletion},
};

/// A service whose calls can be queued and run as tasks.
pub(crate) trait InnerService<Req>:
    Service<
        Req,
        Response: Send + 'static,
        Error: Into<BoxError> + Send + 'static,
        Future: Send + 'static,
    > + Send
    + 'static
{
}

impl<S, Req> InnerService<Req> for S
where
    S: Service<Req> + Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
}

/// The response side of a layer: judges responses and hands them on.
pub(crate) trait Respond<T, E>: Send + Sync + 'static {
    /// The response that callers get instead of a `T`.
    type Response: Send + 'static;

    fn classify(&self, result: Result<&T, &E>) -> Outcome;
    #[cfg(feature = "http")]
    fn classify_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome>;
    fn hand_on(&self, response: T, call: &dyn Call) -> Self::Response;
}

impl<T, E, R, H> Respond<T, E> for Responder<R, H>
where
    R: ClassifyResponse<T, E> + Send + Sync + 'static,
    H: TrackCompletion<T, Response: Send + 'static> + Send + Sync + 'static,
{
    type Response = H::Response;

    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self.classifier.classify(result)
    }

    #[cfg(feature = "http")]
    fn classify_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome> {
        self.classifier.classify_trailers(trailers)
    }

    fn hand_on(&self, response: T, call: &dyn Call) -> H::Response {
        self.completion.track_completion(response, call)
    }
}
