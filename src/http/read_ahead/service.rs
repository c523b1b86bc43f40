//! The service, and the future that reads ahead.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode, header::EXPECT};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::sleep;
use tower::BoxError;
use tower_service::Service;

use super::{
    body::ReadAheadBody,
    buffer::{Buffer, Step},
    total::{Starving, Total},
};
use crate::{http::or_empty::OrEmpty, leveler::timer::Timer};

/// The settings of a layer, and the shared total.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    pub(super) per_request: usize,
    pub(super) total: Arc<Total>,
    /// With the body first: the time limit for the body.
    pub(super) first: Option<Duration>,
}

/// A service that reads the bodies of waiting requests ahead. Made by
/// [`ReadAheadLayer`](super::ReadAheadLayer).
///
/// # Cancel safety
///
/// The same as the inner service. Dropping a call drops the bytes read ahead.
#[derive(Clone, Debug)]
pub struct ReadAhead<S> {
    inner: S,
    budget: Budget,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(inner: S, budget: Budget) -> Self {
        Self { inner, budget }
    }
}

impl<S, B, RB> Service<Request<B>> for ReadAhead<S>
where
    S: Service<Request<ReadAheadBody<B>>, Response = Response<RB>> + Clone,
    B: Body<Data: 'static, Error: Into<BoxError>>,
{
    type Response = Response<OrEmpty<RB>>;
    type Error = S::Error;
    type Future = ReadAheadFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Budget { per_request, total, first } = &self.budget;
        // Polling the body would tell the client to continue.
        let is_awaited = first.is_none() && request.headers().contains_key(EXPECT);
        if *per_request == 0 || is_awaited || request.body().is_end_stream() {
            let future = self.inner.call(request.map(ReadAheadBody::new));
            return ReadAheadFuture { state: State::Called { future }, ahead: None };
        }
        let (parts, body) = request.into_parts();
        let buffer = Arc::new(Buffer::new(body, *per_request, Arc::clone(total)));
        let request = Request::from_parts(parts, ReadAheadBody::shared(Arc::clone(&buffer)));
        let state = match *first {
            None => State::Called { future: self.inner.call(request) },
            Some(time) => {
                // The call needs the service that was polled ready, so the clone stays here.
                let clone = self.inner.clone();
                let service = mem::replace(&mut self.inner, clone);
                State::First { call: Some((service, request)), late: Timer::new(sleep(time)) }
            }
        };
        let ahead = Ahead { buffer, total: Arc::clone(total), starving: None };
        ReadAheadFuture { state, ahead: Some(ahead) }
    }
}

/// The half of a buffer that reads ahead.
struct Ahead<B: Body> {
    buffer: Arc<Buffer<B>>,
    total: Arc<Total>,
    starving: Option<Starving>,
}

impl<B> Ahead<B>
where
    B: Body<Data: 'static, Error: Into<BoxError>>,
{
    /// Reads ahead until the body is pending or a budget is used up.
    fn read(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let step = self.buffer.step(&self.total, cx);
            match step {
                Step::Read => continue,
                Step::Starved => {
                    match &mut self.starving {
                        Some(starving) => starving.stay(cx.waker()),
                        none => *none = Some(Starving::new(&self.total, cx)),
                    }
                    // Bytes may have been released before the entry into the list.
                    if self.total.has_room() {
                        continue;
                    }
                }
                // The rest of the total is for the next starving request.
                _ => self.starving = None,
            }
            return step;
        }
    }
}

pin_project! {
    /// Resolves to the response of the inner service. Until then, reads the body ahead.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ReadAheadFuture<S, B>
    where
        S: Service<Request<ReadAheadBody<B>>>,
        B: Body,
    {
        #[pin]
        state: State<S, S::Future, B>,
        // `None` once reading ahead has ended.
        ahead: Option<Ahead<B>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, B: Body> {
        First { call: Option<(S, Request<ReadAheadBody<B>>)>, late: Timer },
        Called { #[pin] future: F },
        Ended,
    }
}

impl<S, B, RB> Future for ReadAheadFuture<S, B>
where
    S: Service<Request<ReadAheadBody<B>>, Response = Response<RB>>,
    B: Body<Data: 'static, Error: Into<BoxError>>,
{
    type Output = Result<Response<OrEmpty<RB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let StateProj::Called { future } = this.state.as_mut().project() {
                if let Poll::Ready(response) = future.poll(cx) {
                    this.state.set(State::Ended);
                    *this.ahead = None;
                    return Poll::Ready(response.map(|response| response.map(OrEmpty::new)));
                }
            }
            let step = this.ahead.as_mut().map_or(Step::Done, |ahead| ahead.read(cx));
            if step == Step::Gone {
                tracing::debug!("request dropped, its client has gone");
                return Poll::Ready(Ok(end(this.state, this.ahead, StatusCode::BAD_REQUEST)));
            }
            if step == Step::Done {
                *this.ahead = None;
            }
            let StateProj::First { call, late } = this.state.as_mut().project() else {
                // Also if polled after completion.
                return Poll::Pending;
            };
            if step == Step::Pending {
                if late.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                tracing::debug!("request dropped, its body came too slowly");
                return Poll::Ready(Ok(end(this.state, this.ahead, StatusCode::REQUEST_TIMEOUT)));
            }
            let Some((mut service, request)) = call.take() else { return Poll::Pending };
            let future = service.call(request);
            this.state.set(State::Called { future });
        }
    }
}

/// Drops the call, and returns a response instead.
fn end<S, F, B: Body, RB>(
    mut state: Pin<&mut State<S, F, B>>,
    ahead: &mut Option<Ahead<B>>,
    status: StatusCode,
) -> Response<OrEmpty<RB>> {
    state.set(State::Ended);
    *ahead = None;
    let mut response = Response::new(OrEmpty::empty());
    *response.status_mut() = status;
    response
}

impl<S, B> fmt::Debug for ReadAheadFuture<S, B>
where
    S: Service<Request<ReadAheadBody<B>>>,
    B: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAheadFuture").finish_non_exhaustive()
    }
}
