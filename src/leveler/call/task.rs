//! A call under `Execution::Spawn`: perhaps an inline first poll, and then a task.

use std::{
    convert::Infallible,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
};

use tokio::time::Instant;

use super::{
    exchange::{Exchange, Left, Stage},
    idle::{self, Reusable},
    in_flight::End,
    reply::{Reply, ReplyChannel, TaskChannel, Work},
    running::Running,
};
use crate::{
    error::ServiceError,
    leveler::{
        core::Core,
        inline_polling::FirstPoll,
        link::task_call::{AfterEnd, AtEnd, Progress, TaskCall},
        nesting::NoInline,
        panics::contain,
        runtime::RuntimeId,
    },
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

/// The state of a started call.
pub(crate) enum Started<F: Future, A> {
    Ended(Reply<F, A>),
    /// For a new task to run.
    ToSpawn(Arc<SpawnedCall<F, A>>),
    /// Given to an idle task.
    Given(Arc<SpawnedCall<F, A>>),
}

/// Starts a call just made, on the thread of the caller: perhaps with an inline first poll.
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
        let first = first_poll(work.as_mut(), &mut cx, mem::take(&mut is_measured), None);
        if let Poll::Ready(result) = first {
            return Started::Ended(Reply::from_result(result));
        }
    }
    let home = core.runtime.home();
    let Some(idle) = idle::take::<SpawnedCall<F, A>>(home) else {
        return Started::ToSpawn(Arc::new(SpawnedCall::new(home, work, is_measured)));
    };
    match idle.give(work, is_measured) {
        Ok(()) => Started::Given(idle),
        Err(work) => Started::ToSpawn(Arc::new(SpawnedCall::new(home, work, is_measured))),
    }
}

/// Polls a call, perhaps for the first time, and records the poll if `is_measured`. `left`
/// as for [`Running::poll_call`].
fn first_poll<F, A>(
    running: Pin<&mut Running<F, A>>,
    cx: &mut Context<'_>,
    is_measured: bool,
    left: Option<&mut AtEnd>,
) -> Poll<thread::Result<A>>
where
    F: Future<Output: 'static>,
    A: 'static,
{
    if !is_measured {
        return running.poll_call(cx, left);
    }
    let mut running = running;
    let began = Instant::now();
    let polled = running.as_mut().poll_call(cx, left);
    if let Some(core) = running.core() {
        core.inline_polling.record(polled.is_ready(), began.elapsed());
    }
    polled
}

/// The exchange of a call with the request `Q`.
pub(super) type CallExchange<Q, F, A> = Exchange<Q, Work<F, A>, Reply<F, A>>;

/// A direct call, shared by its task and its caller, and perhaps by the next caller.
pub(crate) struct SpawnedCall<F: Future, A> {
    /// The runtime of the task.
    home: RuntimeId,
    /// Set if the first poll is yet to come, and measured.
    begins_measured: AtomicBool,
    exchange: CallExchange<Infallible, F, A>,
}

impl<F: Future, A> SpawnedCall<F, A> {
    fn new(home: RuntimeId, work: Work<F, A>, is_measured: bool) -> Self {
        let begins_measured = AtomicBool::new(is_measured);
        Self { home, begins_measured, exchange: Exchange::running(work) }
    }

    /// Gives the work to the task if the task is idle.
    fn give(&self, work: Work<F, A>, is_measured: bool) -> Result<(), Work<F, A>> {
        // The task sees it after the work.
        self.begins_measured.store(is_measured, Relaxed);
        self.exchange.give(work)?;
        idle::on_given();
        Ok(())
    }
}

impl<F, A> Reusable for SpawnedCall<F, A>
where
    F: Future<Output: Send> + Send + 'static,
    A: Send + 'static,
{
    fn home(&self) -> RuntimeId {
        self.home
    }
}

impl<F, A> ReplyChannel<F, A> for SpawnedCall<F, A>
where
    F: Future<Output: Send> + Send + 'static,
    A: Send + 'static,
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<F, A>> {
        self.exchange.poll_direct(cx)
    }

    fn recv_as_last(self: Arc<Self>) -> Result<Reply<F, A>, Arc<dyn ReplyChannel<F, A>>> {
        // The task may take the next call, with the same channel.
        Err(self)
    }

    fn close(&self, gives_up: bool) {
        if let Left::Work(work, task) = self.exchange.abandon(gives_up) {
            give_up(&self.exchange, work, task);
        }
    }

    #[inline]
    fn leave(self: Arc<Self>) {
        if self.exchange.is_at(Stage::Idle) {
            idle::leave(self);
        }
    }
}

impl<F, A> TaskChannel for SpawnedCall<F, A>
where
    F: Future<Output: Send + 'static> + Send,
    A: Send + 'static,
{
    type Future = F;
    type Answer = A;

    fn take_work(&self) -> Option<Work<F, A>> {
        self.exchange.take_work()
    }

    fn put_work(&self, work: Work<F, A>, worker: Option<Waker>) -> Result<(), Work<F, A>> {
        self.exchange.put_work(work, worker)
    }

    fn send(&self, reply: Reply<F, A>) -> Option<Waker> {
        self.exchange.answer(reply).ok()?
    }

    fn is_closed(&self) -> bool {
        self.exchange.is_abandoned()
    }

    fn is_given_up(&self) -> bool {
        self.exchange.is_given_up()
    }

    #[inline]
    fn begins_measured(&self) -> bool {
        self.begins_measured.load(Relaxed) && self.begins_measured.swap(false, Relaxed)
    }

    fn become_idle(&self) -> bool {
        idle::is_worthwhile() && self.exchange.become_idle()
    }

    fn has_ended_idle(&self) -> bool {
        self.exchange.is_at(Stage::Ended)
    }
}

/// Ends the work of a call after the caller has gone, on the thread of the caller. Then the slot is
/// free, and the task ends when it runs next. If too many husks have not run yet, leaves the work
/// to the task.
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

/// Ends the work of a call after the caller has gone. The drop of the work may use a runtime.
pub(super) fn end<F: Future, A>(work: Work<F, A>) {
    let mut work = work;
    let runtime = work.core().and_then(Core::runtime_outside);
    let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
    work.as_mut().stop(End::Cancelled);
    contain(|| drop(work));
}

impl<C> TaskCall for C
where
    C: TaskChannel<Future: Future<Output: Send + 'static> + Send + 'static, Answer: Send>,
{
    #[inline]
    fn poll(
        &self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
        after_end: AfterEnd<'_>,
    ) -> Poll<()> {
        let work = match progress.unpolled.take() {
            // The work comes with its call, so the type is right.
            Some(unpolled) => unpolled.downcast().ok().map(Box::into_pin),
            None => self.take_work(),
        };
        // If the caller has given up, the caller has ended the work, or leaves the end to the task.
        let Some(mut work) = work else { return Poll::Ready(()) };
        if self.is_given_up() {
            end(work);
            return Poll::Ready(());
        }
        let is_measured = mem::take(&mut progress.is_measured) || self.begins_measured();
        let mut left = AtEnd::default();
        let poll = || first_poll(work.as_mut(), cx, is_measured, Some(&mut left));
        let polled = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(polled) => polled,
            Err(panic) => {
                // A subscriber, or a waker. The slot may be free, and nobody was told.
                if let Some(core) = work.core() {
                    if let Some((charge, time)) = left.charge {
                        core.settle(charge, time);
                    }
                    core.wake();
                }
                resume_unwind(panic);
            }
        };
        match polled {
            Poll::Ready(result) => {
                let worker = contain(|| self.send(Reply::from_result(result)));
                progress.spare = worker.flatten();
                if let Some(core) = work.core() {
                    after_end(core, &mut left);
                }
                // The span of the call is closed by now, and may panic.
                contain(|| drop(work));
                Poll::Ready(())
            }
            Poll::Pending => {
                let is_noted = mem::replace(&mut progress.is_noted, true);
                let new = || progress.spare.take().unwrap_or_else(|| cx.waker().clone());
                let worker = (!is_noted).then(new);
                let Err(work) = self.put_work(work, worker) else { return Poll::Pending };
                // The caller has given up during the poll.
                end(work);
                Poll::Ready(())
            }
        }
    }

    fn become_idle(&self) -> bool {
        TaskChannel::become_idle(self)
    }

    fn on_runtime_lost(&self) {
        let work = self.take_work();
        if self.has_ended_idle() {
            // The last caller has, or will have, the answer, and nobody has come since.
            return;
        }
        if let Some(mut work) = work {
            // If nobody waits for the answer, the drop counts the call as cancelled.
            if !self.is_closed() {
                work.as_mut().stop(End::RuntimeLost);
            }
            contain(|| drop(work));
        }
        contain(|| self.send(Reply::error(ServiceError::runtime_ended())));
    }
}
