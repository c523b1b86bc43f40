//! The future of a call.

use std::{
    fmt,
    panic::resume_unwind,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tokio::task::consume_budget;
use tower::BoxError;

use crate::leveler::{
    call::{
        failure::Failure,
        reply::{Reply, ReplyChannel, Work},
        running::Running,
    },
    relay::Relay,
    watchers::RoomChanged,
};

pin_project! {
    /// The future of a call. Resolves to the response of the inner service, or to an
    /// [error](crate::error).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the call: see [`LoadLevel`](crate::LoadLevel).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F: Future, A = <F as Future>::Output> {
        #[pin]
        state: State<F, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F: Future, A> {
        // Queued, or running on a task.
        Sent { stub: Stub<F, A> },
        // `Execution::Caller`: polled by this future.
        Running { #[pin] running: Running<F, A> },
        // The same, after a wait in the queue.
        Called { work: Work<F, A> },
        // Known when `call` returned.
        Answered { reply: Option<Reply<F, A>> },
        // Known when `call` returned, too. Small and on its own, since refusals must be cheap.
        Failed { error: Option<BoxError> },
        // Made on a thread without a runtime: admitted at the first poll.
        Deferred { call: Option<DeferredCall<F, A>> },
    }
}

/// Admits a call, and returns its future.
pub(crate) type DeferredCall<F, A> = Box<dyn FnOnce() -> ResponseFuture<F, A> + Send>;

/// The caller's end of a call. The channel is `None` once the reply has come.
struct Stub<F: Future, A> {
    channel: Option<Arc<dyn ReplyChannel<F, A>>>,
    /// Set if the call is given up when the caller goes.
    gives_up: bool,
    /// Set if the caller waits for a wake-up. Mostly the next poll finds the reply.
    waits: bool,
}

impl<F: Future, A> Stub<F, A> {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Reply<F, A>> {
        if self.waits {
            match self.channel.take().map(ReplyChannel::recv_as_last) {
                Some(Ok(reply)) => return Poll::Ready(reply),
                channel => self.channel = channel.and_then(Result::err),
            }
        }
        let Some(channel) = &self.channel else { return Poll::Pending };
        self.waits = true;
        let reply = ready!(channel.poll_recv(cx));
        if let Some(channel) = self.channel.take() {
            channel.leave();
        }
        Poll::Ready(reply)
    }
}

impl<F: Future, A> Drop for Stub<F, A> {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.close(self.gives_up);
        }
    }
}

impl<F: Future, A> ResponseFuture<F, A> {
    fn new(state: State<F, A>) -> Self {
        Self { state }
    }

    pub(crate) fn sent(channel: Arc<dyn ReplyChannel<F, A>>, gives_up: bool) -> Self {
        Self::new(State::Sent { stub: Stub { channel: Some(channel), gives_up, waits: false } })
    }

    pub(crate) fn running(running: Running<F, A>) -> Self {
        Self::new(State::Running { running })
    }

    pub(crate) fn answered(reply: Reply<F, A>) -> Self {
        Self::new(State::Answered { reply: Some(reply) })
    }

    pub(crate) fn deferred(call: DeferredCall<F, A>) -> Self {
        Self::new(State::Deferred { call: Some(call) })
    }

    pub(crate) fn failed(error: BoxError) -> Self {
        Self::new(State::Failed { error: Some(error) })
    }
}

impl<F, T, E> Future for ResponseFuture<F, Result<T, E>>
where
    F: Future,
    F::Output: 'static,
    T: 'static,
    E: Into<BoxError> + 'static,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let reply = match state.as_mut().project() {
                StateProj::Sent { stub } => {
                    let reply = ready!(stub.poll_recv(cx));
                    let Reply::Run(work) = reply else {
                        state.set(State::Answered { reply: Some(reply) });
                        continue;
                    };
                    state.set(State::Called { work });
                    // As for an answer, below.
                    if !may_go_on(cx) {
                        return Poll::Pending;
                    }
                    continue;
                }
                StateProj::Running { running } => return poll_running(running, cx),
                StateProj::Called { work } => return poll_running(work.as_mut(), cx),
                // A poll after the end stays pending: nothing more will come.
                StateProj::Answered { reply } => {
                    if reply.is_some() && !may_go_on(cx) {
                        return Poll::Pending;
                    }
                    match reply.take() {
                        Some(reply) => reply,
                        None => return Poll::Pending,
                    }
                }
                StateProj::Deferred { call } => {
                    let Some(call) = call.take() else { return Poll::Pending };
                    state.set(call().state);
                    continue;
                }
                StateProj::Failed { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            };
            match reply {
                Reply::Done(result) => return Poll::Ready(result.map_err(Into::into)),
                Reply::Run(work) => state.set(State::Called { work }),
                Reply::Failed(Failure::Error(error)) => return Poll::Ready(Err(error)),
                Reply::Failed(Failure::Panicked(panic)) => resume_unwind(panic),
            }
        }
    }
}

/// Polls a call that belongs to its caller. A panic is the caller's.
#[inline]
fn poll_running<F, T, E>(
    running: Pin<&mut Running<F, Result<T, E>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, BoxError>>
where
    F: Future<Output: 'static>,
    T: 'static,
    E: Into<BoxError> + 'static,
{
    match ready!(running.poll(cx)) {
        Ok(result) => Poll::Ready(result.map_err(Into::into)),
        Err(panic) => resume_unwind(panic),
    }
}

/// Returns whether the task may go on; if not, the task is woken later. A loop of calls answered at
/// once must let other tasks run, as if each had waited for a tokio resource.
#[inline]
fn may_go_on(cx: &mut Context<'_>) -> bool {
    let mut nobody = Context::from_waker(Waker::noop());
    pin!(consume_budget()).poll(&mut nobody).is_ready() || has_rested(cx)
}

/// Lets tokio wake the task later. Tokio clones the waker while a list is borrowed, and a panic of
/// the waker would end the runtime: tokio gets a relay.
#[cold]
fn has_rested(cx: &mut Context<'_>) -> bool {
    let relay = Arc::new(Relay::default()).to(cx.waker());
    pin!(consume_budget()).poll(&mut Context::from_waker(&relay)).is_ready()
}

impl<F: Future, A> fmt::Debug for ResponseFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Sent { .. } | State::Deferred { .. } => "waiting",
            State::Running { .. } | State::Called { .. } => "running",
            State::Answered { .. } | State::Failed { .. } => "answered",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish()
    }
}

pin_project! {
    /// Resolves when the room or the limit of a leveler may have grown. Made by
    /// [`Handle::changed`](crate::Handle::changed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Changed<'a> {
        #[pin]
        changed: RoomChanged<'a>,
    }
}

impl<'a> Changed<'a> {
    pub(crate) fn new(changed: RoomChanged<'a>) -> Self {
        Self { changed }
    }
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().changed.poll(cx)
    }
}
