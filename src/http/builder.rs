//! Settings of the feature `http`.

use std::time::Duration;

use super::{Hold, HoldBody, RecordWait, ServerTiming};
use crate::{
    builder::Builder,
    error::BuildError,
    respond::{Responder, Sealed},
};

impl<Q, R, H> Builder<Q, R, H> {
    /// Puts the wait of each request into the request's extensions before dispatch, as
    /// [`Waited`](crate::http::Waited).
    ///
    /// Set the request classifier first: it cannot be set any more after this method. Default is
    /// not to record the wait.
    pub fn record_wait(self) -> Builder<RecordWait<Q>, R, H> {
        let Self { config, requests, responder } = self;
        Builder { config, requests: RecordWait(requests), responder }
    }

    /// Puts the wait of each request into the header `Server-Timing` of the response, as
    /// `queue;dur=` milliseconds.
    ///
    /// Default is not to tell clients, since the header reveals how busy the server is.
    pub fn server_timing(self) -> Builder<Q, R, ServerTiming<H>> {
        self.map_completion(ServerTiming)
    }

    /// Sets until when a call keeps its slot: until the response, or until the end of the response
    /// body. The body type of responses becomes [`HeldBody`](crate::http::HeldBody).
    ///
    /// The samples of limit algorithms, and the service times in the stats, end with the response
    /// in either case, since the time of a body depends on the reader. The call is counted when the
    /// slot becomes free.
    ///
    /// A classifier chooses for single requests with [`Class::hold`](crate::Class::hold): for
    /// streams without an end. Default is `Hold::Response`.
    pub fn hold_until(mut self, hold: Hold) -> Builder<Q, R, HoldBody<H>>
    where
        H: Sealed,
    {
        let idle = self.responder.completion.stop_holding();
        self.map_completion(|inner| HoldBody { inner, hold: Some(hold), idle })
    }

    fn map_completion<I>(self, map: impl FnOnce(H) -> I) -> Builder<Q, R, I> {
        let Self { config, requests, responder } = self;
        let Responder { classifier, completion } = responder;
        let responder = Responder { classifier, completion: map(completion) };
        Builder { config, requests, responder }
    }
}

impl<Q, R, H> Builder<Q, R, HoldBody<H>> {
    /// Sets how long a body that keeps a slot may lie unread. After this time the body is dropped,
    /// and a reader that comes back gets the error [`BodyIdle`](crate::http::BodyIdle).
    ///
    /// A body is unread while it has data that nobody asks for. A slow body with a reader waiting
    /// for data is not unread. Needs a runtime with timers enabled. An unread body is found within
    /// twice the time. Default is no limit: a client that never reads keeps its slot.
    pub fn body_idle(mut self, idle: Duration) -> Self {
        self.responder.completion.idle = Some(idle);
        self.config.error =
            idle.is_zero().then(|| BuildError::new("body_idle", "0ns", "more than zero"));
        self
    }
}
