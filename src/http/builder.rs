//! Settings of this feature.

use std::time::Duration;

use super::{Hold, HoldBody, RecordWait, ServerTiming};
use crate::{
    builder::Builder,
    error::BuildError,
    respond::{Responder, Sealed},
};

impl<Q, R, H> Builder<Q, R, H> {
    /// Puts into the extensions of each request how long it has [`Waited`](crate::http::Waited), before its
    /// dispatch.
    ///
    /// Set the request classifier before: after this the compiler says that `request_classifier` is a field, not a
    /// method. Default is not to tell.
    pub fn record_wait(self) -> Builder<RecordWait<Q>, R, H> {
        let Self { config, request_classifier, responder } = self;
        let request_classifier = RecordWait(request_classifier);
        Builder { config, request_classifier, responder }
    }

    /// Puts into the header `Server-Timing` of each response how long its request has waited, as
    /// `queue;dur=` milliseconds.
    ///
    /// Default is not to tell: it says how busy the server is.
    pub fn server_timing(self) -> Builder<Q, R, ServerTiming<H>> {
        self.map_hand(ServerTiming)
    }

    /// Sets until when a call keeps its slot: until its response is there, or until the body of that has come
    /// to its end. Responses have a [`HeldBody`](crate::http::HeldBody) then.
    ///
    /// The samples of limit algorithms, and the service times in the stats, end with the response in either
    /// case: how long a body takes depends on who reads it. The call is counted when its slot is free.
    ///
    /// Set [`body_idle`](Self::body_idle) with `Hold::BodyEnd`, or a client that reads nothing keeps its slots. It is
    /// for all services of the leveler: to hold the slots of some routes only, give them a leveler of their own.
    ///
    /// Default is `Hold::Response`.
    pub fn hold_until(mut self, hold: Hold) -> Builder<Q, R, HoldBody<H>>
    where
        H: Sealed,
    {
        let idle = self.responder.hand.let_go();
        self.map_hand(|hand| HoldBody { hand, hold, idle })
    }

    fn map_hand<I>(self, map: impl FnOnce(H) -> I) -> Builder<Q, R, I> {
        let Self { config, request_classifier, responder } = self;
        let Responder { classifier, hand } = responder;
        let responder = Responder { classifier, hand: map(hand) };
        Builder { config, request_classifier, responder }
    }
}

impl<Q, R, H> Builder<Q, R, HoldBody<H>> {
    /// Sets how long a body that keeps a slot may lie unread: then it is cut, and its reader, should it come
    /// back, gets the error [`BodyIdle`](crate::http::BodyIdle).
    ///
    /// A body that its reader waits for is not unread, however slowly it comes; one that has something for a reader
    /// who does not come back is. Needs a runtime with its timer enabled; found out within twice that time. Default
    /// is for ever: a client that never reads keeps its slot.
    pub fn body_idle(mut self, idle: Duration) -> Self {
        self.responder.hand.idle = Some(idle);
        self.config.error =
            idle.is_zero().then(|| BuildError::new("body_idle", "0ns", "more than zero"));
        self
    }
}
