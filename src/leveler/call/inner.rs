use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, TryLockError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;
use tracing::{Span, span::Entered};

use crate::{
    bounds::Respond,
    class::Prepare,
    error::ServiceError,
    leveler::{
        admission::{Admission, Granted, unserved::Unserved},
        contain::{contain, lock},
        core::Core,
        inline_polling::InCall,
    },
    limit::Outcome,
    queue::InnerId,
    respond::Call,
};

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The inner service of one `layer()` call, with what its calls need when they end.
///
/// `S` needs to be `Send` only: the service that is polled ready is the service that is called,
/// under one lock (law 8), and calls are made one at a time (law 7).
pub(crate) struct Inner<S, R> {
    pub(crate) core: Arc<Core>,
    responder: Arc<R>,
    guarded: Mutex<Guarded<S>>,
}

struct Guarded<S> {
    service: S,
    /// Set when `poll_ready` has failed: the service must not be used again.
    dead: Option<ServiceError>,
    /// Made when the service is first found unready.
    waker: Option<Waker>,
}

/// The answer of an inner that was asked whether it is ready.
pub(crate) enum Readiness<'a, S> {
    Ready(ReadyInner<'a, S>),
    /// Not ready. If the drain task asked, it is told when that may have changed.
    Unready,
    Failed(Failure),
}

/// An inner that is ready, locked until it is called.
pub(crate) struct ReadyInner<'a, S> {
    // In this order: out of the span first, and unlocked last.
    _entered: Entered<'a>,
    _in_call: InCall,
    guarded: MutexGuard<'a, Guarded<S>>,
}

/// The result of an attempt to call an inner. The request comes back if it was not called.
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

/// An end of a call that is neither a response nor an error of its future.
pub(crate) enum Failure {
    /// The error of the inner's `poll_ready`, or one of ours, which the caller gets as it is.
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

/// Judges how a call ended, and hands on what it returned. A running call keeps its inner as this.
pub(crate) trait Judge<O, A>: Send + Sync {
    fn core(&self) -> &Core;
    /// Returns what a call says about the inner's health, and whether it returned a response.
    fn judge(&self, output: &O) -> (Outcome, bool);
    /// Returns what the trailers of the response say instead.
    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome>;
    /// Makes what the caller gets, which may keep the slot.
    fn hand_on(&self, output: O, call: &dyn Call) -> A;
}

/// How often to look whether another thread has made its call. Most calls only build a future, some
/// tens of nanoseconds, and the way through the queue costs more than waiting for that.
const SPINS: usize = 64;

impl<S, R> Inner<S, R> {
    pub(crate) fn new(core: Arc<Core>, responder: Arc<R>, service: S) -> Self {
        let guarded = Mutex::new(Guarded { service, dead: None, waker: None });
        Self { core, responder, guarded }
    }

    /// Returns what names this inner among those of its leveler: its address, which is its own as
    /// long as requests for it wait.
    pub(crate) fn id(&self) -> InnerId {
        std::ptr::from_ref(self).addr()
    }

    /// Asks whether the inner is ready, for the drain task: an inner that is not wakes it later.
    pub(crate) fn poll_ready<'a, Req>(&'a self, span: &'a Span) -> Readiness<'a, S>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let mut guarded = lock(&self.guarded);
        let waker = match &guarded.waker {
            Some(waker) => waker.clone(),
            None => {
                // Most are ready at once, and need no waker. So the first poll is made without.
                match guarded.poll_ready(Waker::noop(), span) {
                    Polled::Unready => {}
                    polled => return polled.with(guarded),
                }
                let waker = InnerWaker { core: Arc::downgrade(&self.core), inner: self.id() };
                guarded.waker.insert(Waker::from(Arc::new(waker))).clone()
            }
        };
        guarded.poll_ready(&waker, span).with(guarded)
    }

    /// Asks the same for a caller that does not wait: not for readiness, nor for another thread
    /// that is just calling the same inner (which may be this very call, further up).
    #[inline]
    pub(crate) fn try_poll_ready<'a, Req>(&'a self, span: &'a Span) -> Readiness<'a, S>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        match self.try_lock() {
            Some(mut guarded) => guarded.poll_ready(Waker::noop(), span).with(guarded),
            None => Readiness::Unready,
        }
    }

    #[inline]
    fn try_lock(&self) -> Option<MutexGuard<'_, Guarded<S>>> {
        for _ in 0..SPINS {
            match self.guarded.try_lock() {
                Ok(guarded) => return Some(guarded),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }
}

/// The result of a poll, still without the lock that it was made under.
enum Polled<'a> {
    Ready(Entered<'a>, InCall),
    Unready,
    Failed(Failure),
}

impl<'a> Polled<'a> {
    #[inline]
    fn with<S>(self, guarded: MutexGuard<'a, Guarded<S>>) -> Readiness<'a, S> {
        match self {
            Self::Ready(_entered, _in_call) => {
                Readiness::Ready(ReadyInner { _entered, _in_call, guarded })
            }
            Self::Unready => Readiness::Unready,
            Self::Failed(failure) => Readiness::Failed(failure),
        }
    }
}

impl<S> Guarded<S> {
    #[inline]
    fn poll_ready<'a, Req>(&mut self, waker: &Waker, span: &'a Span) -> Polled<'a>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        if let Some(dead) = &self.dead {
            return Polled::Failed(Failure::Error(dead.clone().into()));
        }
        let entered = span.enter();
        let in_call = InCall::begin();
        let mut cx = Context::from_waker(waker);
        match catch_unwind(AssertUnwindSafe(|| self.service.poll_ready(&mut cx))) {
            Ok(Poll::Ready(Ok(()))) => Polled::Ready(entered, in_call),
            Ok(Poll::Ready(Err(error))) => Polled::Failed(self.die(error)),
            Ok(Poll::Pending) => Polled::Unready,
            Err(panic) => Polled::Failed(Failure::Panicked(panic)),
        }
    }

    fn die(&mut self, error: impl Into<BoxError>) -> Failure {
        let described = catch_unwind(AssertUnwindSafe(|| {
            let error = error.into();
            let text = error.to_string();
            (error, text)
        }));
        match described {
            Ok((error, text)) => {
                self.dead = Some(ServiceError::new(text.as_str().into()));
                tracing::warn!(error = %text, "inner service failed, its requests will be refused");
                Failure::Error(error)
            }
            Err(panic) => {
                self.dead = Some(ServiceError::new("an error that cannot be displayed".into()));
                Failure::Panicked(panic)
            }
        }
    }
}

impl<S> ReadyInner<'_, S> {
    /// Calls the inner, and keeps its panic from others. `prepare` is done to the request just
    /// before; it learns how long the request has `waited`.
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
        // Here, and not at the return: if leaving the span panics, the future is dropped and not leaked.
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

impl<S, R> Granted for Arc<Inner<S, R>> {
    #[inline]
    fn admission(&self) -> &Admission {
        &self.core.admission
    }
}

impl<O, A> Granted for Arc<dyn Judge<O, A>> {
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

/// Tells the drain task that an inner may be ready. Weak, since the inner keeps it.
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
            // The last reference to the core may be this one; what it drops is user code.
            contain(|| drop(core));
        }
    }
}
