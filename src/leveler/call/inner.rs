use std::{
    any::Any,
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;
use tracing::{Span, span::Entered};

use super::death_mark::DeathMark;
use crate::{
    classify::Prepare,
    error::ServiceError,
    leveler::{
        admission::{Admission, Grantor, unserved::Unserved},
        core::Core,
        inline_polling::InCall,
        link::dead::Dead,
        panics::contain,
    },
    limit::Outcome,
    queue::InnerId,
    respond::Call,
    sync::{
        UserMutex, UserMutexGuard,
        atomic::{Ordering::SeqCst, fence},
        spin_loop,
    },
    traits::Respond,
};

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The inner service of a `layer()` call, with the parts needed when calls end.
///
/// `S` needs to be `Send` only: a service is polled ready and called under the same lock (law 8),
/// and calls are made in sequence (law 7).
pub(crate) struct Inner<S, R> {
    pub(crate) core: Arc<Core>,
    responder: Arc<R>,
    dead: DeathMark,
    guarded: UserMutex<Guarded<S>>,
}

struct Guarded<S> {
    service: S,
    /// Made when the service is first found unready.
    waker: Option<Waker>,
}

/// The answer of an inner to a readiness poll.
pub(crate) enum Readiness<'a, S> {
    Ready(ReadyInner<'a, S>),
    /// Not ready. If the drain task polled, the inner will wake it.
    Unready,
    Failed(Failure),
}

/// A ready inner, locked until the call.
pub(crate) struct ReadyInner<'a, S> {
    // Drop order: leave the span first, unlock last.
    _entered: Entered<'a>,
    _in_call: InCall,
    guarded: UserMutexGuard<'a, Guarded<S>>,
}

/// The result of an attempt to call an inner. The request comes back if the inner was not called.
pub(crate) enum Attempt<Req, F> {
    Called(F),
    Unready(Req),
    NoSlot(Req),
    Failed(Failure, Option<Req>),
}

impl<Req, F> Attempt<Req, F> {
    pub(crate) fn called(result: Result<F, Panic>) -> Self {
        match result {
            Ok(future) => Self::Called(future),
            Err(panic) => Self::Failed(Failure::Panicked(panic), None),
        }
    }
}

/// An end of a call other than a response or an error of the future.
pub(crate) enum Failure {
    /// An error of the inner's `poll_ready`, or of this crate, for the caller to get unchanged.
    Error(BoxError),
    Panicked(Panic),
}

impl Failure {
    pub(crate) fn unserved(&self) -> Unserved {
        match self {
            Self::Error(_) => Unserved::Failed,
            Self::Panicked(_) => Unserved::Panicked,
        }
    }
}

/// Judges the end of a call, and hands the response on. A running call keeps its inner as a judge.
pub(crate) trait Judge<O, A>: Send + Sync {
    fn core(&self) -> &Core;
    /// Returns the call's verdict on the inner's health, and whether the call returned a response.
    fn judge(&self, output: &O) -> (Outcome, bool);
    /// Returns the outcome by the response's trailers, if the trailers change it.
    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome>;
    /// Makes the answer to the caller, which may keep the slot.
    fn hand_on(&self, output: O, call: &dyn Call) -> A;
}

/// The number of attempts at a lock held by a thread in the middle of a call. Most calls only build
/// a future, some tens of nanoseconds, and the way through the queue costs more than waiting.
const SPINS: usize = 64;

impl<S, R> Inner<S, R> {
    pub(crate) fn new(core: Arc<Core>, responder: Arc<R>, service: S) -> Self {
        let guarded = UserMutex::new(Guarded { service, waker: None });
        Self { core, responder, dead: DeathMark::default(), guarded }
    }

    /// Returns the error of a dead inner: its `poll_ready` has failed. A load of one atomic.
    #[inline]
    pub(crate) fn dead(&self) -> Option<&ServiceError> {
        self.dead.get()
    }

    /// Returns the inner's address, as its name within the leveler. Unique while requests for the
    /// inner wait.
    pub(crate) fn id(&self) -> InnerId {
        std::ptr::from_ref(self).addr()
    }

    /// Polls the inner for readiness, for the drain task: an unready inner wakes the drain task
    /// later.
    pub(crate) fn poll_ready<'a, Req>(self: &'a Arc<Self>, span: &'a Span) -> Readiness<'a, S>
    where
        S: Service<Req> + Send + 'static,
        S::Error: Into<BoxError>,
        R: Send + Sync + 'static,
    {
        let mut guarded = self.guarded.lock();
        if let Some(failed) = self.refuse_if_dead() {
            return failed;
        }
        let waker = match &guarded.waker {
            Some(waker) => waker.clone(),
            None => {
                // Most inners are ready at once, and need no waker. So the first poll is made
                // without one.
                match guarded.poll_ready(Waker::noop(), span, &self.dead) {
                    Polled::Unready => {}
                    polled => return polled.with(guarded, self, span),
                }
                let waker = InnerWaker { core: Arc::downgrade(&self.core), inner: self.id() };
                guarded.waker.insert(Waker::from(Arc::new(waker))).clone()
            }
        };
        guarded.poll_ready(&waker, span, &self.dead).with(guarded, self, span)
    }

    /// Polls the inner for a caller that cannot wait. The inner also counts as unready while it is
    /// being called, by another thread or further up the same stack.
    #[inline]
    pub(crate) fn try_poll_ready<'a, Req>(self: &'a Arc<Self>, span: &'a Span) -> Readiness<'a, S>
    where
        S: Service<Req> + Send + 'static,
        S::Error: Into<BoxError>,
        R: Send + Sync + 'static,
    {
        let Some(mut guarded) = self.try_lock() else { return Readiness::Unready };
        if let Some(failed) = self.refuse_if_dead() {
            return failed;
        }
        guarded.poll_ready(Waker::noop(), span, &self.dead).with(guarded, self, span)
    }

    /// Returns the answer of a dead inner. Looks under the lock, which may have been held by the
    /// thread that found it dead.
    #[inline]
    fn refuse_if_dead(&self) -> Option<Readiness<'_, S>> {
        let dead = self.dead()?.clone();
        Some(Readiness::Failed(Failure::Error(dead.into())))
    }

    /// Tells of the death: to the drain task, which answers the requests that wait for the inner,
    /// and to the services that wait for a place.
    #[cold]
    fn on_death(self: &Arc<Self>, span: &Span)
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        self.fail_waiting();
        self.core.admission.listeners.waitlist.wake_all();
        let error = self.dead().and_then(Error::source).map(tracing::field::display);
        span.in_scope(|| {
            tracing::warn!(error, "inner service failed, its requests will be refused");
        });
    }

    /// Lets the drain task answer the requests that wait for this inner, which is dead.
    #[cold]
    pub(crate) fn fail_waiting(self: &Arc<Self>)
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        // Between the mark of death, and the looks at the queue and at the wait list. A caller
        // sends a request, or a service joins the list, and then looks for the mark. Either it
        // finds the mark, or it is found.
        fence(SeqCst);
        let address: Weak<Self> = Arc::downgrade(self);
        self.core.link.on_dead(Dead::new(self.id(), address));
        self.core.wake();
    }

    #[inline]
    fn try_lock(&self) -> Option<UserMutexGuard<'_, Guarded<S>>> {
        for _ in 0..SPINS {
            match self.guarded.try_lock() {
                Some(guarded) => return Some(guarded),
                None => spin_loop(),
            }
        }
        None
    }
}

/// The result of a poll, without the lock.
enum Polled<'a> {
    Ready(Entered<'a>, InCall),
    Unready,
    Panicked(Panic),
    /// The poll failed, or its error could not be displayed.
    Died(Failure),
}

impl<'a> Polled<'a> {
    #[inline]
    fn with<S, R>(
        self,
        guarded: UserMutexGuard<'a, Guarded<S>>,
        inner: &Arc<Inner<S, R>>,
        span: &Span,
    ) -> Readiness<'a, S>
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        match self {
            Self::Ready(_entered, _in_call) => {
                Readiness::Ready(ReadyInner { _entered, _in_call, guarded })
            }
            Self::Unready => Readiness::Unready,
            Self::Panicked(panic) => Readiness::Failed(Failure::Panicked(panic)),
            Self::Died(failure) => {
                // Outside of the lock, since others are woken.
                drop(guarded);
                inner.on_death(span);
                Readiness::Failed(failure)
            }
        }
    }
}

impl<S> Guarded<S> {
    #[inline]
    fn poll_ready<'a, Req>(&mut self, waker: &Waker, span: &'a Span, dead: &DeathMark) -> Polled<'a>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let entered = span.enter();
        let in_call = InCall::begin();
        let mut cx = Context::from_waker(waker);
        match catch_unwind(AssertUnwindSafe(|| self.service.poll_ready(&mut cx))) {
            Ok(Poll::Ready(Ok(()))) => Polled::Ready(entered, in_call),
            Ok(Poll::Ready(Err(error))) => {
                Polled::Died(dead.set(error).map_or_else(Failure::Panicked, Failure::Error))
            }
            Ok(Poll::Pending) => Polled::Unready,
            Err(panic) => Polled::Panicked(panic),
        }
    }
}

impl<S> ReadyInner<'_, S> {
    /// Calls the inner, and returns a panic as an error. `prepare` is applied to the request just
    /// before the call, and gets the time that the request has `waited`.
    #[inline]
    pub(crate) fn call<Req>(
        mut self,
        request: Req,
        prepare: Option<Prepare<Req>>,
        waited: Duration,
    ) -> Result<S::Future, Panic>
    where
        S: Service<Req>,
    {
        let called = catch_unwind(AssertUnwindSafe(|| {
            let mut request = request;
            if let Some(prepare) = prepare {
                prepare(&mut request, waited);
            }
            self.guarded.service.call(request)
        }));
        // Here, and not at the return: if leaving the span panics, the future is dropped and not
        // leaked.
        drop(self);
        called
    }
}

impl<S, R, T, E> Judge<Result<T, E>, Result<R::Response, E>> for Inner<S, R>
where
    S: Send,
    R: Respond<T, E>,
{
    fn core(&self) -> &Core {
        &self.core
    }

    fn judge(&self, output: &Result<T, E>) -> (Outcome, bool) {
        (self.responder.classify(output.as_ref()), output.is_ok())
    }

    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome> {
        self.responder.classify_trailers(trailers)
    }

    fn hand_on(&self, output: Result<T, E>, call: &dyn Call) -> Result<R::Response, E> {
        output.map(|response| self.responder.hand_on(response, call))
    }
}

impl<S, R> Grantor for Arc<Inner<S, R>> {
    #[inline]
    fn admission(&self) -> &Admission {
        &self.core.admission
    }
}

impl<O, A> Grantor for Arc<dyn Judge<O, A>> {
    #[inline]
    fn admission(&self) -> &Admission {
        &self.core().admission
    }
}

impl<S, R> fmt::Debug for Inner<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("core", &self.core).finish_non_exhaustive()
    }
}

/// Wakes the drain task to poll an inner again. Weak, since the inner owns the waker.
struct InnerWaker {
    core: Weak<Core>,
    inner: InnerId,
}

impl Wake for InnerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(core) = self.core.upgrade() {
            core.ask_again(self.inner);
            // This may be the last reference to the core, and dropping the core runs user code.
            contain(|| drop(core));
        }
    }
}
