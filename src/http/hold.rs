//! Slots held until the end of a response body.

use http::{Response, header::CONTENT_LENGTH};
use http_body::Body;
use tower::BoxError;

use super::{body::HeldBody, body_limits::BodyLimits};
use crate::{
    respond::{Call, Sealed, TrackCompletion},
    words::{display_words, words},
};

/// The time until which a call keeps its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hold {
    /// Until the response. The body streams without a slot.
    #[default]
    Response,
    /// Until the response body has been read to the end, has failed, or was dropped.
    /// [`Class::hold`](crate::Class::hold) makes exceptions for streams without an end.
    ///
    /// A call fails if its body fails. A call is cancelled if its body is dropped half way: by the
    /// reader, or for exceeding a limit. If nobody asks for the body, as with `HEAD`, the call ends
    /// with the response.
    BodyEnd,
}

words!(Hold, "hold", { Response = "response", BodyEnd = "body_end" });
display_words!(Hold);

/// The [`TrackCompletion`] made by [`Builder::hold_until`](crate::Builder::hold_until).
#[derive(Clone, Copy, Debug)]
pub struct HoldBody<H> {
    pub(crate) inner: H,
    /// `None` if a later `hold_until` has replaced this value.
    pub(crate) hold: Option<Hold>,
    pub(crate) limits: BodyLimits,
}

impl<H> Sealed for HoldBody<H> {
    fn stop_holding(&mut self) -> BodyLimits {
        self.hold = None;
        self.limits
    }
}

#[diagnostic::do_not_recommend]
impl<H, T, B> TrackCompletion<T> for HoldBody<H>
where
    H: TrackCompletion<T, Response = Response<B>>,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<HeldBody<B>>;

    fn track_completion(&self, response: T, call: &dyn Call) -> Response<HeldBody<B>> {
        let response = self.inner.track_completion(response, call);
        let length = response.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let holds = self.hold.is_some_and(|hold| {
            // The choice of the class takes precedence.
            call.holds_body().unwrap_or(hold == Hold::BodyEnd)
        });
        response.map(|body| match holds && !body.is_end_stream() {
            true => {
                let left = length.or_else(|| body.size_hint().exact());
                HeldBody::held(body, left, call.keep(), self.limits)
            }
            false => HeldBody::new(body),
        })
    }
}
