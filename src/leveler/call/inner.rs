use std::{
    error::Error,
    fmt,
    mem::offset_of,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    context::{CallContext, Entered},
    death_mark::DeathMark,
    failure::{Failure, NotCalled, Panic},
};
use crate::{
    classify::Prepare,
    error::ServiceError,
    leveler::{
        admission::{Admission, Grantor},
        core::Core,
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

/// The inner service of a `layer()` call, with the parts needed when calls end.
///
/// `S` needs to be `Send` only: a service is polled ready and called under the same lock (law 8),
/// and calls are made in sequence (law 7).
// In this order: every call writes the lock, and the reference count of the `Arc`, which lies just
// before. The gap keeps both off the cache line of the rest, which every call reads. Nothing here
// is aligned to pairs of lines: an aligned allocation takes longer, and `layer()` is to be cheap.
#[repr(C)]
pub(crate) struct Inner<S, R> {
    guarded: UserMutex<Guarded<S>>,
    _gap: Gap,
    pub(crate) core: Arc<Core>,
    responder: Arc<R>,
    dead: DeathMark,
}

/// Unused bytes, as many as a cache line has.
type Gap = [u64; 8];

const _: () = {
    // What is written ends before the gap, and what is read begins after it.
    assert!(offset_of!(Inner<(), ()>, guarded) < offset_of!(Inner<(), ()>, _gap));
    assert!(offset_of!(Inner<(), ()>, core) >= offset_of!(Inner<(), ()>, _gap) + 64);
};

struct Guarded<S> {
    service: S,
    /// Made when the service is first found unready.
    waker: Option<Waker>,
}

/// Judges the end of a call, and hands the response on. A running call keeps its inner as a judge.
pub(crate) trait Judge<O, A>: Send + Sync {
    fn core(&self) -> &Core;
    /// Returns the call's verdict on the inner's health, and whether the call returned a response.
    fn judge(&self, output: &O) -> (Outcome, bool);
    /// Returns the outcome by the response's trailers, if the trailers change it.
    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome>;
    /// Makes the answer to the caller. The answer may keep the slot.
    fn hand_on(&self, output: O, call: &dyn Call) -> A;
}

/// The number of attempts at a lock held by a thread in the middle of a call. Most calls only build
/// a future, in some tens of nanoseconds. The way through the queue costs more than waiting.
const SPINS: usize = 64;

impl<S, R> Inner<S, R> {
    pub(crate) fn new(core: Arc<Core>, responder: Arc<R>, service: S) -> Self {
        let guarded = UserMutex::new(Guarded { service, waker: None });
        let (dead, _gap) = (DeathMark::default(), Gap::default());
        Self { guarded, _gap, core, responder, dead }
    }

    /// Returns the error of an inner that is dead since its `poll_ready` failed. A load of one
    /// atomic.
    #[inline]
    pub(crate) fn dead(&self) -> Option<&ServiceError> {
        self.dead.get()
    }

    /// Returns the inner's address, as its name within the leveler. Unique while requests for the
    /// inner wait.
    pub(crate) fn id(&self) -> InnerId {
        std::ptr::from_ref(self).addr()
    }

    /// Polls the inner, for the drain task. An unready inner wakes the drain task later.
    #[inline]
    pub(crate) fn poll_ready<'a, Req>(
        self: &'a Arc<Self>,
        context: &'a mut CallContext,
    ) -> Result<Ready<'a, S>, NotCalled>
    where
        S: Service<Req> + Send + 'static,
        S::Error: Into<BoxError>,
        R: Send + Sync + 'static,
    {
        let mut guarded = self.guarded.lock();
        if let Some(failure) = self.refuse_if_dead() {
            return Err(NotCalled::Failed(failure));
        }
        let entered = context.enter_call();
        let polled = match &guarded.waker {
            Some(waker) => {
                let waker = waker.clone();
                guarded.poll_ready(&waker, &self.dead)
            }
            // Most inners are ready at once, and need no waker. The first poll is therefore made
            // without a waker.
            None => match guarded.poll_ready(Waker::noop(), &self.dead) {
                Polled::Unready => {
                    let waker = InnerWaker { core: Arc::downgrade(&self.core), inner: self.id() };
                    let waker = guarded.waker.insert(Waker::from(Arc::new(waker))).clone();
                    guarded.poll_ready(&waker, &self.dead)
                }
                polled => polled,
            },
        };
        self.conclude(polled, Ready { entered, guarded })
    }

    /// Polls the inner, for a caller with a slot that cannot wait. The inner also counts as unready
    /// while it is being called, by another thread or further up the same stack.
    #[inline(always)]
    pub(crate) fn try_ready<'a, Req>(
        self: &'a Arc<Self>,
        context: &'a mut CallContext,
    ) -> Result<Ready<'a, S>, NotCalled>
    where
        S: Service<Req> + Send + 'static,
        S::Error: Into<BoxError>,
        R: Send + Sync + 'static,
    {
        let Some(mut guarded) = self.try_lock() else { return Err(NotCalled::Unready) };
        if let Some(failure) = self.refuse_if_dead() {
            return Err(NotCalled::Failed(failure));
        }
        let entered = context.enter_call();
        let polled = guarded.poll_ready(Waker::noop(), &self.dead);
        self.conclude(polled, Ready { entered, guarded })
    }

    /// Returns the inner if it is ready. Otherwise leaves the context, and unlocks.
    #[inline(always)]
    fn conclude<'a>(
        self: &Arc<Self>,
        polled: Polled,
        ready: Ready<'a, S>,
    ) -> Result<Ready<'a, S>, NotCalled>
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        match polled {
            Polled::Ready => Ok(ready),
            Polled::Unready => Err(NotCalled::Unready),
            Polled::Panicked(panic) => Err(NotCalled::Failed(Failure::Panicked(panic))),
            Polled::Died(failure) => {
                let Ready { entered, guarded } = ready;
                drop(guarded);
                self.tell_death();
                entered.leave();
                // Outside of the lock and of the context: other tasks are woken, and a waker may
                // run its task on the spot.
                self.on_death();
                Err(NotCalled::Failed(failure))
            }
        }
    }

    /// Returns whether the inner is found unready. False while the inner is being called.
    pub(crate) fn is_unready<Req>(self: &Arc<Self>, context: &mut CallContext) -> bool
    where
        S: Service<Req> + Send + 'static,
        S::Error: Into<BoxError>,
        R: Send + Sync + 'static,
    {
        let Some(mut guarded) = self.try_lock() else { return false };
        if self.dead().is_some() {
            return false;
        }
        let entered = context.enter_call();
        let polled = guarded.poll_ready(Waker::noop(), &self.dead);
        drop(guarded);
        match polled {
            Polled::Died(_) => {
                self.tell_death();
                entered.leave();
                self.on_death();
                false
            }
            polled => matches!(polled, Polled::Unready),
        }
    }

    /// Returns the answer of a dead inner. Looks under the lock: another thread may have held the
    /// lock, and found the inner dead.
    #[inline]
    fn refuse_if_dead(&self) -> Option<Failure> {
        Some(Failure::Error(self.dead()?.clone().into()))
    }

    /// Reports the death to the drain task, which answers the waiting requests of the inner, and to
    /// the services waiting for a place.
    #[cold]
    fn on_death(self: &Arc<Self>)
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        self.fail_waiting();
        self.core.admission.listeners.waitlist.wake_all();
    }

    /// Logs the death. Called in the context of the call.
    #[cold]
    fn tell_death(&self) {
        let error = self.dead().and_then(Error::source).map(tracing::field::display);
        let name = &*self.core.settings.name;
        contain(|| {
            tracing::warn!(%name, error, "inner service failed, its requests will be refused");
        });
    }

    /// Lets the drain task answer the waiting requests of this dead inner.
    #[cold]
    pub(crate) fn fail_waiting(self: &Arc<Self>)
    where
        S: Send + 'static,
        R: Send + Sync + 'static,
    {
        // Between the mark of death, and the looks at the queue and at the wait list. A caller
        // first sends a request, or a service joins the list, and then looks for the mark. Either
        // the caller finds the mark, or the looks find the request or service.
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

/// The result of a poll.
enum Polled {
    Ready,
    Unready,
    Panicked(Panic),
    /// The poll failed, or its error could not be displayed.
    Died(Failure),
}

impl<S> Guarded<S> {
    #[inline]
    fn poll_ready<Req>(&mut self, waker: &Waker, dead: &DeathMark) -> Polled
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let mut cx = Context::from_waker(waker);
        match catch_unwind(AssertUnwindSafe(|| self.service.poll_ready(&mut cx))) {
            Ok(Poll::Ready(Ok(()))) => Polled::Ready,
            Ok(Poll::Ready(Err(error))) => {
                Polled::Died(dead.set(error).map_or_else(Failure::Panicked, Failure::Error))
            }
            Ok(Poll::Pending) => Polled::Unready,
            Err(panic) => Polled::Panicked(panic),
        }
    }
}

/// A ready inner, locked, and in the context of the call to be made.
pub(crate) struct Ready<'a, S> {
    // In this order: the context is left under the lock.
    entered: Entered<'a>,
    guarded: UserMutexGuard<'a, Guarded<S>>,
}

impl<S> Ready<'_, S> {
    /// Calls the inner, after `prepare` was applied to the request with the time `waited`. Then
    /// leaves the context, and unlocks. Returns a panic as an error.
    #[inline(always)]
    pub(crate) fn call<Req>(
        self,
        request: Req,
        prepare: Option<Prepare<Req>>,
        waited: Duration,
    ) -> Result<S::Future, Panic>
    where
        S: Service<Req>,
    {
        let Self { entered, mut guarded } = self;
        let called = catch_unwind(AssertUnwindSafe(|| {
            let mut request = request;
            if let Some(prepare) = prepare {
                prepare(&mut request, waited);
            }
            guarded.service.call(request)
        }));
        entered.leave();
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
