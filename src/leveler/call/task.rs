//! A call under `Execution::Spawn`: perhaps an inline first poll, and then a task.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
    thread,
};

use pin_project_lite::pin_project;
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

use super::{
    in_flight::{End, InFlight},
    reply::{Reply, ReplyTo},
    running::Running,
};
use crate::{
    error::ServiceError,
    leveler::{
        core::Core,
        inline_polling::{FirstPoll, InCall},
    },
    options::Abandon,
};

/// The state of a started call.
pub(crate) enum Started<F: Future, A> {
    Ended(Reply<F, A>),
    Spawned(oneshot::Receiver<Reply<F, A>>),
}

/// Starts a call just made, on the thread of the caller. Requires
/// [`can_spawn`](crate::leveler::runtime::Runtime::can_spawn) to have returned true.
pub(crate) fn start<F, A>(
    core: &Core,
    future: F,
    in_flight: InFlight<F::Output, A>,
    span: Span,
    first: FirstPoll,
) -> Started<F, A>
where
    F: Future<Output: Send> + Send + 'static,
    A: Send + 'static,
{
    let is_measured = first == FirstPoll::Measured;
    let inline = first != FirstPoll::OnTask && core.inline_polling.is_on();
    if !inline || !core.runtime.is_callers_task() {
        let running = Running::new(future, in_flight, span);
        return Started::Spawned(spawn(core, running, is_measured));
    }
    let mut running = Running::new(Box::pin(future), in_flight, span);
    // If unready, the call is polled again by a task, with a real waker.
    let mut cx = Context::from_waker(Waker::noop());
    let _in_call = InCall::begin();
    match first_poll(Pin::new(&mut running), &mut cx, is_measured) {
        Poll::Ready(result) => Started::Ended(Reply::from_result(result)),
        Poll::Pending => Started::Spawned(spawn(core, running, false)),
    }
}

/// Polls a call for the first time, and records the poll if `is_measured`.
fn first_poll<F, A>(
    running: Pin<&mut Running<F, A>>,
    cx: &mut Context<'_>,
    is_measured: bool,
) -> Poll<thread::Result<A>>
where
    F: Future<Output: 'static>,
    A: 'static,
{
    if !is_measured {
        return running.poll(cx);
    }
    let mut running = running;
    let began = Instant::now();
    let polled = running.as_mut().poll(cx);
    if let Some(core) = running.core() {
        core.inline_polling.record(polled.is_ready(), began.elapsed());
    }
    polled
}

fn spawn<G, F, A>(
    core: &Core,
    running: Running<G, A>,
    is_measured: bool,
) -> oneshot::Receiver<Reply<F, A>>
where
    G: Future<Output = F::Output> + Send + 'static,
    F: Future<Output: Send> + Send + 'static,
    A: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let reply = ReplyTo::Oneshot(sender);
    core.runtime.spawn(Task::new(running, reply, core.settings.abandon, is_measured));
    receiver
}

pin_project! {
    /// The task of a call. An inline first poll may have boxed the future.
    pub(crate) struct Task<G: Future, F: Future, A> {
        #[pin]
        running: Running<G, A>,
        reply: Option<ReplyTo<F, A>>,
        // Set if the work stops once the caller has gone.
        cancel: bool,
        // Set if the next poll is the first, and measured.
        is_measured: bool,
    }

    impl<G: Future, F: Future, A> PinnedDrop for Task<G, F, A> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Dropped before the end: the runtime is going down.
            if let Some(reply) = this.reply.take() {
                if reply.is_closed() {
                    return;
                }
                this.running.stop(End::RuntimeLost);
                reply.send(Reply::error(ServiceError::runtime_ended()));
            }
        }
    }
}

impl<G: Future, F: Future, A> Task<G, F, A> {
    pub(crate) fn new(
        running: Running<G, A>,
        reply: ReplyTo<F, A>,
        abandon: Abandon,
        is_measured: bool,
    ) -> Self {
        let cancel = abandon == Abandon::Cancel;
        Self { running, reply: Some(reply), cancel, is_measured }
    }
}

impl<G, F, A> Future for Task<G, F, A>
where
    G: Future<Output = F::Output>,
    F: Future<Output: 'static>,
    A: 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(reply) = this.reply.as_mut() else { return Poll::Ready(()) };
        if *this.cancel && reply.is_closed() {
            *this.reply = None;
            this.running.stop(End::Cancelled);
            return Poll::Ready(());
        }
        let is_measured = mem::take(this.is_measured);
        match first_poll(this.running.as_mut(), cx, is_measured) {
            Poll::Ready(result) => {
                if let Some(reply) = this.reply.take() {
                    reply.send(Reply::from_result(result));
                }
                Poll::Ready(())
            }
            // Registered only now, to be woken when the caller goes: most short calls have ended by
            // then.
            Poll::Pending if *this.cancel && reply.poll_closed(cx).is_ready() => {
                *this.reply = None;
                this.running.stop(End::Cancelled);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
