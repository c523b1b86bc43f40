//! The response side of a call: judging the response, and passing it on.

use std::time::Duration;

/// Passes the responses of the inner service on to callers. Made by the builder, and sealed.
pub trait HandOn<T>: sealed::Sealed {
    /// The response type of the layer, for an inner response of type `T`.
    type Response;

    /// Passes a response on. The call's slot becomes free on return, unless it is kept.
    #[doc(hidden)]
    fn hand_on(&self, response: T, call: &dyn Call) -> Self::Response;
}

/// A call that has returned.
#[doc(hidden)]
#[allow(unnameable_types, reason = "for this crate alone")]
pub trait Call {
    /// Returns the time from admission to dispatch.
    fn waited(&self) -> Duration;
    /// Keeps the call's slot until the returned value is dropped.
    fn keep(&self) -> Box<dyn Kept>;
}

/// The slot of a call that has returned.
#[doc(hidden)]
#[allow(unnameable_types, reason = "for this crate alone")]
pub trait Kept: Send + Sync {
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

mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {
        /// Stops keeping slots. Returns the idle limit of bodies that hold a slot.
        #[cfg(feature = "http")]
        fn stop_holding(&mut self) -> Option<std::time::Duration> {
            None
        }
    }
}
pub(crate) use sealed::Sealed;

/// The default [`HandOn`]: passes responses on unchanged.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AsIs;

impl Sealed for AsIs {}

impl<T> HandOn<T> for AsIs {
    type Response = T;

    fn hand_on(&self, response: T, _call: &dyn Call) -> T {
        response
    }
}

/// The response side of a layer: the classifier, and the [`HandOn`].
pub(crate) struct Responder<R, H> {
    pub(crate) classifier: R,
    pub(crate) hand: H,
}
