//! What becomes of a response: it is judged, and handed on.

use std::time::Duration;

use crate::{class::ClassifyResponse, limit::Outcome};

/// The response side of a layer: judges how a call ended, and hands its response on.
///
/// Every [`ClassifyResponse`] is one, and hands responses on as they are. Those that change them are made by
/// the builder. Not to be implemented outside of this crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a `Result<{T}, {E}>`",
    note = "a response classifier is a `ClassifyResponse<{T}, {E}>`, or a closure `Fn(Result<&{T}, &{E}>) -> Outcome`"
)]
pub trait Respond<T, E>: sealed::Sealed<T, E> {
    /// What callers get instead of a `T`.
    type Response;

    /// Returns what the call says about the health of the inner service.
    #[doc(hidden)]
    fn judge(&self, result: Result<&T, &E>) -> Outcome;

    /// Hands the response on. The slot of the call goes home then, unless it is kept.
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
    /// The call has turned out otherwise.
    fn amend(&mut self, ok: bool, outcome: Outcome);
}

mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed<T, E> {}
}
pub(crate) use sealed::Sealed;

impl<R, T, E> Sealed<T, E> for R where R: ClassifyResponse<T, E> {}

impl<R, T, E> Respond<T, E> for R
where
    R: ClassifyResponse<T, E>,
{
    type Response = T;

    fn judge(&self, result: Result<&T, &E>) -> Outcome {
        self.classify(result)
    }

    fn hand_on(&self, response: T, _call: &dyn Call) -> T {
        response
    }
}
