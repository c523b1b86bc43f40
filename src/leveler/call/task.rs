//! A call under `Execution::Spawn`: perhaps an inline first poll, and then a task.

use std::{
    convert::Infallible,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use tokio::time::Instant;

use super::{
    exchange::{Exchange, Left},
    in_flight::End,
    reply::{Reply, ReplyChannel, TaskChannel, Work},
    running::Running,
};
use crate::{
    error::ServiceError,
    leveler::{core::Core, inline_polling::FirstPoll, nesting::NoInline, panics::contain},
};

/// The state of a started call.
pub(crate) enum Started<F: Future, A> {
    Ended(Reply<F, A>),
    Spawned(Arc<dyn ReplyChannel<F, A>>),
}

/// Starts a call just made, on the thread of the caller. Requires
/// [`can_spawn`](crate::leveler::runtime::Runtime::can_spawn) to have returned true.
pub(crate) fn start<F, A>(core: &Core, running: Running<F, A>, first: FirstPoll) -> Started<F, A>
where
    F: Future<Output: Send> + Send + 'static,
    A: Send + 'static,
{
    let mut is_measured = first == FirstPoll::Measured;
    let inline = first != FirstPoll::OnTask && core.inline_polling.is_on();
    let mut work = Box::pin(running);
    if inline && core.runtime.is_callers_task() {
        // If unready, the call is polled again by a task, with a real waker.
        let mut cx = Context::from_waker(Waker::noop());
        let _no_inline = NoInline::begin();
        let first = first_poll(work.as_mut(), &mut cx, mem::take(&mut is_measured));
        if let Poll::Ready(result) = first {
            return Started::Ended(Reply::from_result(result));
        }
    }
    let call = Arc::new(SpawnedCall(Exchange::running(work)));
    core.runtime.spawn(Task::new(Arc::clone(&call), is_measured));
    Started::Spawned(call)
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

/// The exchange of a call with the request `Q`.
pub(super) type CallExchange<Q, F, A> = Exchange<Q, Work<F, A>, Reply<F, A>>;

/// A call made directly, shared by its task and its caller.
struct SpawnedCall<F: Future, A>(CallExchange<Infallible, F, A>);

impl<F, A> ReplyChannel<F, A> for SpawnedCall<F, A>
where
    F: Future<Output: Send> + Send,
    A: Send,
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>> {
        self.0.poll_answer(cx)
    }

    fn close(&self, gives_up: bool) {
        if let Left::Work(work, task) = self.0.abandon(gives_up) {
            give_up(&self.0, work, task);
        }
    }
}

impl<F, A> TaskChannel<F, A> for SpawnedCall<F, A>
where
    F: Future<Output: Send> + Send,
    A: Send,
{
    fn take_work(&self) -> Option<Work<F, A>> {
        self.0.take_work()
    }

    fn put_work(&self, work: Work<F, A>, worker: Option<Waker>) -> Result<(), Work<F, A>> {
        self.0.put_work(work, worker)
    }

    fn send(&self, reply: Reply<F, A>) {
        drop(self.0.answer(reply));
    }

    fn is_closed(&self) -> bool {
        self.0.is_abandoned()
    }

    fn is_given_up(&self) -> bool {
        self.0.is_given_up()
    }
}

/// Ends the work of a call whose caller has gone, on the thread of the caller. The slot is free
/// afterwards, and the task ends when it runs next. If too many such tasks have not run yet, leaves
/// the work to the task.
pub(super) fn give_up<Q, F: Future, A>(
    exchange: &CallExchange<Q, F, A>,
    work: Work<F, A>,
    task: Option<Waker>,
) {
    let husk = work.core().and_then(|core| core.husks.begin());
    let work = match husk {
        Some(husk) => {
            exchange.leave(husk);
            Some(work)
        }
        None => {
            exchange.return_work(work);
            None
        }
    };
    // Before the work ends, which may panic: a task that nobody wakes would stay for good.
    if let Some(task) = task {
        contain(|| task.wake());
    }
    if let Some(work) = work {
        end(work);
    }
}

/// Ends the work of a call whose caller has gone. Its drop may use a runtime.
pub(super) fn end<F: Future, A>(work: Work<F, A>) {
    let mut work = work;
    let runtime = work.core().and_then(Core::runtime_outside);
    let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
    work.as_mut().stop(End::Cancelled);
    contain(|| drop(work));
}

/// The task of a call. The work is in the channel, within reach of the caller, and in the hand of
/// the task while polled.
pub(crate) struct Task<C: TaskChannel<F, A>, F: Future, A> {
    /// `None` after the end.
    call: Option<Arc<C>>,
    /// Set if the next poll is the first, and measured.
    is_measured: bool,
    /// Set once the channel has the waker of this task, which never changes.
    is_noted: bool,
    types: PhantomData<fn() -> (F, A)>,
}

impl<C: TaskChannel<F, A>, F: Future, A> Task<C, F, A> {
    pub(crate) fn new(call: Arc<C>, is_measured: bool) -> Self {
        Self { call: Some(call), is_measured, is_noted: false, types: PhantomData }
    }
}

impl<C, F, A> Future for Task<C, F, A>
where
    C: TaskChannel<F, A>,
    F: Future<Output: 'static>,
    A: 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(call) = &this.call else { return Poll::Ready(()) };
        let Some(mut work) = call.take_work() else {
            // The caller has given up, and has ended the work.
            this.call = None;
            return Poll::Ready(());
        };
        if call.is_given_up() {
            this.call = None;
            end(work);
            return Poll::Ready(());
        }
        match first_poll(work.as_mut(), cx, mem::take(&mut this.is_measured)) {
            Poll::Ready(result) => {
                if let Some(call) = this.call.take() {
                    contain(|| call.send(Reply::from_result(result)));
                }
                Poll::Ready(())
            }
            Poll::Pending => {
                let worker = (!mem::replace(&mut this.is_noted, true)).then(|| cx.waker().clone());
                let Err(work) = call.put_work(work, worker) else { return Poll::Pending };
                // The caller has given up during the poll.
                this.call = None;
                end(work);
                Poll::Ready(())
            }
        }
    }
}

impl<C: TaskChannel<F, A>, F: Future, A> Drop for Task<C, F, A> {
    fn drop(&mut self) {
        // Dropped before the end: the runtime is going down.
        let Some(call) = self.call.take() else { return };
        if let Some(mut work) = call.take_work() {
            // If nobody waits for the answer, the drop counts the call as cancelled.
            if !call.is_closed() {
                work.as_mut().stop(End::RuntimeLost);
            }
            contain(|| drop(work));
        }
        contain(|| call.send(Reply::error(ServiceError::runtime_ended())));
    }
}
