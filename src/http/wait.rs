//! Telling how long a request has waited.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response};

use crate::{
    class::{Class, ClassifyRequest, Prepare},
    respond::{Call, HandOn, Sealed},
};

/// How long a request has waited for its dispatch; in its extensions, with
/// [`Builder::record_wait`](crate::Builder::record_wait).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a time with a name")]
pub struct Waited(pub Duration);

/// What [`Builder::record_wait`](crate::Builder::record_wait) makes of a request classifier.
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

/// What [`Builder::server_timing`](crate::Builder::server_timing) makes of how responses are handed on: a
/// [`HandOn`].
#[derive(Clone, Copy, Debug)]
pub struct ServerTiming<H>(pub(crate) H);

impl<H: Sealed> Sealed for ServerTiming<H> {
    fn let_go(&mut self) -> Option<Duration> {
        self.0.let_go()
    }
}

impl<H, T, B> HandOn<T> for ServerTiming<H>
where
    H: HandOn<T, Response = Response<B>>,
{
    type Response = Response<B>;

    fn hand_on(&self, response: T, call: &dyn Call) -> Response<B> {
        let mut response = self.0.hand_on(response, call);
        let millis = call.waited().as_secs_f64() * 1e3;
        if let Ok(value) = HeaderValue::try_from(format!("queue;dur={millis:.3}")) {
            // Beside those of the inner service; where there is no room for one more, without it.
            let name = HeaderName::from_static("server-timing");
            let _ = response.headers_mut().try_append(name, value);
        }
        response
    }
}
