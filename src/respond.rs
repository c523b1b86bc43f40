//! The moment at which a call completes, and the response for the caller.
//!
//! The third type parameter of [`LoadLevelLayer`](crate::LoadLevelLayer),
//! [`LoadLevel`](crate::LoadLevel) and [`Builder`](crate::Builder) is a [`TrackCompletion`]. If the
//! builder sets neither `hold_until` nor `server_timing`, the name of a service type omits the
//! third parameter.

pub(crate) use self::sealed::{Call, Kept, Sealed};

/// Passes the responses of the inner service on to callers. Made by the builder, and sealed.
///
/// Named after tower's trait for the same purpose: `tower::load::TrackCompletion`.
#[diagnostic::on_unimplemented(
    message = "a leveler with `hold_until` or `server_timing` cannot pass on responses of the \
               type `{T}`",
    label = "the leveler around this service does not fit its responses",
    note = "the inner service has to respond with `http::Response<B>`: put the leveler right \
            around the HTTP service, and layers that change the response outside",
    note = "with `hold_until`, the body has to be `http_body::Body + Send + 'static`: right inside \
            of the leveler write \
            `.map_response(|response: Response<_>| response.map(axum::body::Body::from))`"
)]
pub trait TrackCompletion<T>: Sealed {
    /// The response type of the layer, for an inner response of type `T`.
    type Response;

    /// Passes a response on. The call's slot becomes free on return, unless kept.
    #[doc(hidden)]
    fn track_completion(&self, response: T, call: &dyn Call) -> Self::Response;
}

/// The default [`TrackCompletion`]: a call completes with its response, passed on unchanged.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CompleteOnResponse;

impl Sealed for CompleteOnResponse {}

impl<T> TrackCompletion<T> for CompleteOnResponse {
    type Response = T;

    fn track_completion(&self, response: T, _call: &dyn Call) -> T {
        response
    }
}

/// The response side of a layer: the classifier, and the [`TrackCompletion`].
pub(crate) struct Responder<R, C> {
    pub(crate) classifier: R,
    pub(crate) completion: C,
}

mod sealed {
    use std::time::Duration;

    #[cfg(feature = "http")]
    use crate::{http::body_limits::BodyLimits, leveler::nesting::LevelerId};

    /// A call whose inner future has returned.
    #[allow(unnameable_types, reason = "for this crate alone")]
    pub trait Call {
        /// Returns the time from admission to dispatch.
        fn waited(&self) -> Duration;
        /// Returns the request class's choice of whether to keep the slot until the end of the
        /// response body, if the class has one.
        #[cfg(feature = "http")]
        fn holds_body(&self) -> Option<bool>;
        /// Keeps the call's slot until the returned value is dropped.
        fn keep(&self) -> Box<dyn Kept>;
    }

    /// The slot of a call whose inner future has returned.
    #[allow(unnameable_types, reason = "for this crate alone")]
    pub trait Kept: Send + Sync {
        /// Returns the id of the leveler, for the detection of nested calls.
        #[cfg(feature = "http")]
        fn id(&self) -> Option<LevelerId>;
        /// Returns the name of the leveler.
        #[cfg(feature = "http")]
        fn leveler(&self) -> Option<&str>;
        /// Judges the call once more, by its trailers.
        #[cfg(feature = "http")]
        fn judge_trailers(&mut self, trailers: &http::HeaderMap);
        /// Records that the call failed after all.
        #[cfg(feature = "http")]
        fn fail(&mut self);
        /// Records that the response was abandoned half way.
        #[cfg(feature = "http")]
        fn break_off(&mut self);
    }

    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {
        /// Stops keeping slots. Returns the limits of bodies that hold a slot.
        #[cfg(feature = "http")]
        fn stop_holding(&mut self) -> BodyLimits {
            BodyLimits::default()
        }
    }
}
