//! The inner service of one `layer()` call.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, TryLockError, Weak},
    task::{Context, Poll, Wake, Waker},
};

use tower::BoxError;
use tower_service::Service;
use tracing::Span;

use crate::leveler::{Core, contain, inline_poll::InCall, lock, places::Slots};
use crate::{
    class::ClassifyResponse,
    error::ServiceError,
    limit::Outcome,
    queue::InnerId,
    respond::{Call, HandOn, Responder},
};

/// What a panic carries.
pub(crate) type Panic = Box<dyn Any + Send>;

/// An inner service with what its calls need when they end. `S` needs to be `Send` only: the cell that is
/// polled ready is the cell that is called, under one lock (law 8), and calls are made one at a time
/// (law 7).
pub(crate) struct Inner<S, R> {
    pub(crate) core: Arc<Core>,
    responder: Arc<R>,
    cell: Mutex<Guarded<S>>,
}

struct Guarded<S> {
    service: S,
    /// Set when `poll_ready` has failed: the service must not be used again.
    dead: Option<ServiceError>,
    /// Made when the service is first found unready.
    waker: Option<Waker>,
}

/// What became of the attempt to call the inner.
pub(crate) enum Entered<Req, F> {
    /// Called, with these slots.
    Called(F, Slots),
    /// Not ready; the drain task is told when that may have changed.
    Unready(Req),
    /// Ready, but no slot was to be had.
    NoSlot(Req),
    /// The request is lost, and may have got slots.
    Failed { failure: Failure, slots: Option<Slots> },
}

/// An end of a call that is neither a response nor an error of its future.
pub(crate) enum Failure {
    /// What the caller gets as it is: the error of the inner's `poll_ready`, or one of ours.
    Error(BoxError),
    Panicked(Panic),
}

impl<Req, F> Entered<Req, F> {
    /// Ends a request that was not called, whatever its drop does: its slots and places are yet to be freed.
    fn failed(failure: Failure, request: Req) -> Self {
        contain(|| drop(request));
        Self::Failed { failure, slots: None }
    }
}

/// Judges how a call ended, and hands on what it returned; what a running call keeps of its inner.
pub(crate) trait Judge<O, A>: Send + Sync {
    fn core(&self) -> &Core;
    fn judge(&self, output: &O) -> Outcome;
    /// What the trailers of the response say instead.
    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome>;
    /// Makes what the caller gets, which may keep the slot.
    fn hand_on(&self, output: O, call: &dyn Call) -> A;
}

impl<S, R> Inner<S, R> {
    pub(crate) fn new(core: Arc<Core>, responder: Arc<R>, service: S) -> Self {
        let cell = Mutex::new(Guarded { service, dead: None, waker: None });
        Self { core, responder, cell }
    }

    /// Names this inner among those of its leveler: its address, since those that wait for it keep it.
    pub(crate) fn lane(&self) -> InnerId {
        std::ptr::from_ref(self).addr()
    }

    /// Polls the inner ready and calls it, for the drain task: an inner that is not ready wakes it later.
    ///
    /// `prepare` is done to the request just before.
    pub(crate) fn enter<Req>(
        &self,
        span: &Span,
        request: Req,
        prepare: impl Fn(&mut Req),
        take_slots: impl Fn() -> Option<Slots>,
    ) -> Entered<Req, S::Future>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let mut cell = lock(&self.cell);
        let waker = cell.waker.clone();
        let waker = waker.unwrap_or_else(|| Waker::noop().clone());
        match cell.enter(&waker, span, request, &prepare, &take_slots) {
            // Polled with nobody to wake; the second poll leaves our waker.
            Entered::Unready(request) if cell.waker.is_none() => {
                let rouser = InnerWaker { core: Arc::downgrade(&self.core), lane: self.lane() };
                let waker = Waker::from(Arc::new(rouser));
                cell.waker = Some(waker.clone());
                cell.enter(&waker, span, request, prepare, take_slots)
            }
            entered => entered,
        }
    }

    /// The same for a caller that already has slots and does not wait: not for readiness, nor for
    /// another that is just calling the same inner (which may be this very call, further up).
    pub(crate) fn try_enter<Req>(
        &self,
        span: &Span,
        request: Req,
        prepare: impl Fn(&mut Req),
        slots: Slots,
    ) -> Entered<Req, S::Future>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        match self.try_lock() {
            Some(mut cell) => cell.enter(Waker::noop(), span, request, prepare, || Some(slots)),
            None => Entered::Unready(request),
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Guarded<S>>> {
        for _ in 0..SPINS {
            match self.cell.try_lock() {
                Ok(cell) => return Some(cell),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }
}

/// How often to look whether another thread has made its call. Most calls only build a future, some tens of
/// nanoseconds, and the way through the queue costs more than waiting for that.
const SPINS: usize = 64;

impl<S> Guarded<S> {
    fn enter<Req>(
        &mut self,
        waker: &Waker,
        span: &Span,
        request: Req,
        prepare: impl FnOnce(&mut Req),
        take_slots: impl FnOnce() -> Option<Slots>,
    ) -> Entered<Req, S::Future>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        if let Some(dead) = &self.dead {
            return Entered::failed(Failure::Error(dead.clone().into()), request);
        }
        let _entered = span.enter();
        let _in_call = InCall::begin();
        let mut cx = Context::from_waker(waker);
        match catch_unwind(AssertUnwindSafe(|| self.service.poll_ready(&mut cx))) {
            Err(panic) => return Entered::failed(Failure::Panicked(panic), request),
            Ok(Poll::Pending) => return Entered::Unready(request),
            Ok(Poll::Ready(Err(error))) => return Entered::failed(self.die(error), request),
            Ok(Poll::Ready(Ok(()))) => {}
        }
        let Some(slots) = take_slots() else { return Entered::NoSlot(request) };
        let call = || {
            let mut request = request;
            prepare(&mut request);
            self.service.call(request)
        };
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(future) => Entered::Called(future, slots),
            Err(panic) => Entered::Failed { failure: Failure::Panicked(panic), slots: Some(slots) },
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
                tracing::warn!(error = %text, "inner service failed, its requests will be refused");
                self.dead = Some(ServiceError::new(text.into()));
                Failure::Error(error)
            }
            Err(panic) => {
                self.dead = Some(ServiceError::new("an error that cannot be displayed".into()));
                Failure::Panicked(panic)
            }
        }
    }
}

impl<S, R, H, T, E> Judge<Result<T, E>, Result<H::Response, E>> for Inner<S, Responder<R, H>>
where
    S: Send,
    R: ClassifyResponse<T, E> + Send + Sync,
    H: HandOn<T> + Send + Sync,
{
    fn core(&self) -> &Core {
        &self.core
    }

    fn judge(&self, output: &Result<T, E>) -> Outcome {
        self.responder.classifier.classify(output.as_ref())
    }

    #[cfg(feature = "http")]
    fn judge_trailers(&self, trailers: &http::HeaderMap) -> Option<Outcome> {
        self.responder.classifier.classify_trailers(trailers)
    }

    fn hand_on(&self, output: Result<T, E>, call: &dyn Call) -> Result<H::Response, E> {
        output.map(|response| self.responder.hand.hand_on(response, call))
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
    lane: InnerId,
}

impl Wake for InnerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(core) = self.core.upgrade() {
            core.ask_again(self.lane);
            // The last reference to the core may be this one; what it drops is user code.
            contain(|| drop(core));
        }
    }
}
