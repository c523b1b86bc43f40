//! Settings of the feature `http`.

use std::time::Duration;

use super::{Hold, HoldBody, RecordWait, ServerTiming, body_limits::BodyLimits};
use crate::{
    builder::Builder,
    respond::{Responder, Sealed},
};

impl<Q, R, H> Builder<Q, R, H> {
    /// Puts the wait of each request into the request's extensions before dispatch, as
    /// [`Waited`](crate::http::Waited).
    ///
    /// Set the request classifier first: this method fixes the classifier. Default is not to record
    /// the wait.
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
        let limits = self.responder.completion.stop_holding();
        self.map_completion(|inner| HoldBody { inner, hold: Some(hold), limits })
    }

    fn map_completion<I>(self, map: impl FnOnce(H) -> I) -> Builder<Q, R, I> {
        let Self { config, requests, responder } = self;
        let Responder { classifier, completion } = responder;
        let responder = Responder { classifier, completion: map(completion) };
        Builder { config, requests, responder }
    }
}

impl<Q, R, H> Builder<Q, R, HoldBody<H>> {
    /// Sets how long a body with a slot may lie unread. After this time the body is dropped, and a
    /// returning reader gets the error [`BodyIdle`](crate::http::BodyIdle).
    ///
    /// A body is unread while it has data and nobody asks for the data. A slow body is not unread
    /// while a reader waits for data. Over HTTP/1, hyper asks again when a third of the send buffer
    /// of the socket is free: on Linux up to 1.3 MB, or 20 s at 64 KiB/s. A short time therefore
    /// cuts honest slow readers. With [`body_rate`](Self::body_rate) honest slow readers pass:
    /// `idle` is then the time for which a body may fall behind the rate.
    ///
    /// Needs a runtime with timers enabled. An unread body is found within twice the time. Default
    /// is no limit: a client that never reads keeps its slot.
    pub fn body_idle(self, idle: Duration) -> Self {
        self.map_limits(|limits| limits.idle = Some(idle))
    }

    /// Sets the average rate at which a body with a slot has to be read. A slower body is dropped,
    /// and the reader gets the error [`BodyTooSlow`](crate::http::BodyTooSlow).
    ///
    /// A body is dropped once its data has lain unread, in all, for longer than grace + bytes taken
    /// ÷ rate. The grace is the time of [`body_idle`](Self::body_idle), or 5 s. Time without data
    /// does not count, as between server-sent events. Bytes count when hyper takes them. If a
    /// reader stops, the layer notices after the grace and the time for the bytes in the buffers of
    /// the connection: over HTTP/1 several MB on Linux, over HTTP/2 the window of the stream.
    ///
    /// Needs a runtime with timers enabled. Default is no rate: a client that takes a byte now and
    /// then keeps its slot.
    pub fn body_rate(self, bytes_per_second: u64) -> Self {
        self.map_limits(|limits| limits.rate = Some(bytes_per_second))
    }

    /// Sets the time for which a body may keep its slot, from the response head on. After this time
    /// the body is dropped, and the reader gets the error
    /// [`BodyTooLong`](crate::http::BodyTooLong).
    ///
    /// Also ends streams with a reader waiting for data. Needs a runtime with timers enabled.
    /// Default is no limit.
    pub fn body_time(self, time: Duration) -> Self {
        self.map_limits(|limits| limits.time = Some(time))
    }

    fn map_limits(mut self, set: impl FnOnce(&mut BodyLimits)) -> Self {
        let limits = &mut self.responder.completion.limits;
        set(limits);
        self.config.error = limits.error();
        self
    }
}
