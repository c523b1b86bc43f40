//! The future of a call.

use std::{
    fmt,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tower::BoxError;

use crate::{
    core::{
        Failure, Job,
        in_flight::{IsOk, Reply, Running},
    },
    error::{Reason, Rejected},
};

pin_project! {
    /// Resolves to the response of the inner service, its error, or why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the call: see [`LoadLevel`](crate::LoadLevel).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F: Future, A = <F as Future>::Output> {
        #[pin]
        state: State<F, A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F: Future, A> {
        // Queued, or running on a task: the answer will come.
        Waiting { answer: oneshot::Receiver<Reply<F, A>>, ticket: Ticket },
        // `Execution::Caller`: ours to poll.
        Running { #[pin] running: Running<F, A> },
        // Known when `call` returned.
        Answered { reply: Option<Reply<F, A>> },
        // The same; apart, for refusals are to be cheap, and this is small.
        Failed { error: Option<BoxError> },
    }
}

/// The caller's end of a waiting request. `None` when it is to be done whether or not the caller stays.
struct Ticket(Option<Arc<dyn Job>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(job) = self.0.take() {
            job.cancel();
        }
    }
}

impl<F: Future, A> ResponseFuture<F, A> {
    fn new(state: State<F, A>) -> Self {
        Self { state }
    }

    pub(crate) fn queued(
        answer: oneshot::Receiver<Reply<F, A>>,
        ticket: Option<Arc<dyn Job>>,
    ) -> Self {
        Self::new(State::Waiting { answer, ticket: Ticket(ticket) })
    }

    pub(crate) fn spawned(answer: oneshot::Receiver<Reply<F, A>>) -> Self {
        Self::queued(answer, None)
    }

    pub(crate) fn running(running: Running<F, A>) -> Self {
        Self::new(State::Running { running })
    }

    pub(crate) fn answered(reply: Reply<F, A>) -> Self {
        Self::new(State::Answered { reply: Some(reply) })
    }

    pub(crate) fn failed(error: BoxError) -> Self {
        Self::new(State::Failed { error: Some(error) })
    }
}

impl<F, T, E> Future for ResponseFuture<F, Result<T, E>>
where
    F: Future,
    F::Output: IsOk + 'static,
    T: 'static,
    E: Into<BoxError> + 'static,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let reply = match state.as_mut().project() {
                StateProj::Waiting { answer, ticket } => {
                    let reply = ready!(Pin::new(answer).poll(cx));
                    // Answered: there is nothing left to cancel.
                    ticket.0 = None;
                    reply.unwrap_or_else(|_| Reply::error(lost()))
                }
                StateProj::Running { running } => {
                    return match ready!(running.poll(cx)) {
                        Ok(result) => Poll::Ready(result.map_err(Into::into)),
                        Err(panic) => resume_unwind(panic),
                    };
                }
                // Polled again after its end it stays pending, as if it had nothing more to say.
                StateProj::Answered { reply } => match reply.take() {
                    Some(reply) => reply,
                    None => return Poll::Pending,
                },
                StateProj::Failed { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            };
            match reply {
                Reply::Done(result) => return Poll::Ready(result.map_err(Into::into)),
                Reply::Run(running) => state.set(State::Running { running }),
                Reply::Failed(Failure::Error(error)) => return Poll::Ready(Err(error)),
                Reply::Failed(Failure::Panicked(panic)) => resume_unwind(panic),
            }
        }
    }
}

/// The answer when whoever had the request is gone without a word. Every request answers when it is
/// dropped, so this is for a bug of ours: better than a hang.
fn lost() -> Rejected {
    Rejected {
        reason: Reason::Closed,
        retry_after: None,
        waited: Duration::ZERO,
        queued: 0,
        limit: 0,
        over_share: false,
    }
}

impl<F: Future, A> fmt::Debug for ResponseFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "waiting",
            State::Running { .. } => "running",
            State::Answered { .. } | State::Failed { .. } => "answered",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish()
    }
}
