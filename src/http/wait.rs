//! The wait of a request, told to the inner service and to the client.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};

use super::body_limits::BodyLimits;
use crate::{
    class::Class,
    classify::{ClassifyRequest, Prepare},
    respond::{Call, Sealed, TrackCompletion},
};

/// The time from admission to dispatch. In the request's extensions, with
/// [`Builder::record_wait`](crate::Builder::record_wait).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a time with a name")]
pub struct Waited(pub Duration);

/// The request classifier made by [`Builder::record_wait`](crate::Builder::record_wait).
#[derive(Clone, Copy, Debug)]
pub struct RecordWait<Q>(pub(crate) Q);

impl<Q, B> ClassifyRequest<Request<B>> for RecordWait<Q>
where
    Q: ClassifyRequest<Request<B>>,
{
    fn classify(&self, request: &Request<B>) -> Class {
        self.0.classify(request)
    }

    fn prepare(&self) -> Option<Prepare<Request<B>>> {
        Some(|request, waited| {
            request.extensions_mut().insert(Waited(waited));
        })
    }
}

/// The [`TrackCompletion`] made by [`Builder::server_timing`](crate::Builder::server_timing).
#[derive(Clone, Copy, Debug)]
pub struct ServerTiming<H>(pub(crate) H);

impl<H: Sealed> Sealed for ServerTiming<H> {
    fn stop_holding(&mut self) -> BodyLimits {
        self.0.stop_holding()
    }
}

#[diagnostic::do_not_recommend]
impl<H, T, B> TrackCompletion<T> for ServerTiming<H>
where
    H: TrackCompletion<T, Response = Response<B>>,
{
    type Response = Response<B>;

    fn track_completion(&self, response: T, call: &dyn Call) -> Response<B> {
        let mut response = self.0.track_completion(response, call);
        let millis = call.waited().as_secs_f64() * 1e3;
        if let Ok(value) = HeaderValue::try_from(format!("queue;dur={millis:.3}")) {
            // Appended beside values from the inner service. Left out if the header map is full.
            let name = HeaderName::from_static("server-timing");
            let _ = response.headers_mut().try_append(name, value);
        }
        response
    }
}
