//! What becomes of a response: it is judged, and handed on.

use std::time::Duration;

/// How a layer hands the responses of its inner service on; made by the builder, not to be implemented outside
/// of this crate.
pub trait HandOn<T>: sealed::Sealed {
    /// What callers get instead of a `T`.
    type Response;

    /// Hands a response on. The slot of the call goes home then, unless it is kept.
    #[doc(hidden)]
    fn hand_on(&self, response: T, call: &dyn Call) -> Self::Response;
}

/// A call that has returned.
#[doc(hidden)]
#[allow(unnameable_types, reason = "for this crate alone")]
pub trait Call {
    /// How long it had waited for its dispatch.
    fn waited(&self) -> Duration;
    /// Keeps its slot: that goes home when what this returns is dropped.
    fn keep(&self) -> Box<dyn Kept>;
}

/// The slot of a call that has returned.
#[doc(hidden)]
#[allow(unnameable_types, reason = "for this crate alone")]
pub trait Kept: Send + Sync {
    /// Trailers may tell what the call says about the inner.
    #[cfg(feature = "http")]
    fn judge_trailers(&mut self, trailers: &http::HeaderMap);
    /// The call has failed after all.
    #[cfg(feature = "http")]
    fn fail(&mut self);
    /// Its response is not wanted any more, half way.
    #[cfg(feature = "http")]
    fn break_off(&mut self);
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {
        /// Keeps no slots any more; returns how long bodies with one might lie unread.
        #[cfg(feature = "http")]
        fn let_go(&mut self) -> Option<std::time::Duration> {
            None
        }
    }
}
pub(crate) use sealed::Sealed;

/// The default [`HandOn`]: responses are handed on as they are.
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

/// The response side of a layer: what judges, and what hands on.
pub(crate) struct Responder<R, H> {
    pub(crate) classifier: R,
    pub(crate) hand: H,
}
