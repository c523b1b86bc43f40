use std::{
    fmt,
    panic::resume_unwind,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tower::BoxError;
use tower_service::Service;
use tracing::Span;

use crate::{
    builder::{Abandon, Execution, Overflow},
    class::{ClassifyRequest, ClassifyResponse, Opaque},
    core::{
        Core, Failure, Inner, Job, Leveler, Turn,
        in_flight::{InFlight, Running, Task},
        inner::Entered,
        job::{Late, Request, Waits},
        places::{Admitted, Denied, Reserved},
    },
    error::{Reason, Refused, Rejected},
    future::ResponseFuture,
};

/// A service behind the queue of its [`LoadLevelLayer`](crate::LoadLevelLayer).
///
/// `Clone`, `Send` and `Sync` whatever `S` is, as long as `S` is `Send`; all clones share `S`.
///
/// By default `poll_ready` is always ready and reserves nothing, and `call` needs no `poll_ready`: it
/// decides at once whether the request is admitted, and the future it returns says so. Only with
/// [`Overflow::Wait`] does `poll_ready` wait for a place.
///
/// # Errors
///
/// [`Rejected`], [`ServiceError`](crate::error::ServiceError), or the error of `S` as it is, all as
/// [`BoxError`]: see [`error`](crate::error).
///
/// # Panics
///
/// A panic of the inner service, or of a classifier, reaches the caller of that one call: usually from the
/// future, or from `call` itself.
///
/// # Cancel safety
///
/// Dropping the future of a call frees its place at once if it waits, and drops the inner's future if it
/// runs. With [`Abandon::Finish`] the work is done all the same.
pub struct LoadLevel<S, Q, R> {
    inner: Arc<Inner<S, R>>,
    leveler: Arc<Leveler>,
    request_classifier: Arc<Q>,
    /// What `poll_ready` has reserved, under `Overflow::Wait`.
    reserved: Option<Reserved>,
    turn: Turn,
}

impl<S, Q, R> LoadLevel<S, Q, R> {
    pub(crate) fn new(
        inner: Inner<S, R>,
        leveler: Arc<Leveler>,
        request_classifier: Arc<Q>,
    ) -> Self {
        Self {
            inner: Arc::new(inner),
            leveler,
            request_classifier,
            reserved: None,
            turn: Turn::default(),
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.leveler.core
    }

    /// Waits for a place, under `Overflow::Wait`.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reserved.is_some() {
            return Poll::Ready(());
        }
        self.reserved = self.core().places.reserve();
        if self.reserved.is_none() {
            self.leveler.core.waiters.register(&mut self.turn, cx.waker());
            // Once more, since a place may have been freed before we were registered.
            self.reserved = self.core().places.reserve();
        }
        if self.reserved.is_none() {
            // The drain task sees to it that a sleeper does not keep the place that woke it. Without a
            // runtime there is none, and nobody who sleeps either.
            let _ = self.core().ensure_drained();
            return Poll::Pending;
        }
        self.leveler.core.waiters.forget(&mut self.turn);
        // Who asks whether all is idle may have taken the place for that of a request.
        self.core().idle.notify();
        Poll::Ready(())
    }

    /// Takes a place for a newcomer, by its reservation if there is one.
    fn admit(&mut self) -> Result<Admitted, Reason> {
        let core = &self.leveler.core;
        let admitted = match self.reserved.take() {
            Some(Reserved::Place) => core.places.admit_reserved(true).inspect_err(|_| {
                // Closed since; the place is still ours.
                core.release_waiting();
            }),
            Some(Reserved::Nothing) | None => core.places.admit(true, core.when_full()),
        };
        admitted.map_err(|denied| match denied {
            Denied::Full => Reason::Full,
            Denied::Closed => Reason::Closed,
        })
    }

    /// When a request admitted now is late: the earlier of `max_wait` and its own deadline.
    fn late(&self, now: Instant, deadline: Option<Instant>) -> Option<Late> {
        let at = self.core().max_wait().and_then(|max_wait| now.checked_add(max_wait));
        let max_wait = at.map(|at| Late { at, reason: Reason::MaxWait });
        let deadline = deadline.map(|at| Late { at, reason: Reason::Deadline });
        max_wait.into_iter().chain(deadline).min_by_key(|late| late.at)
    }
}

impl<S, Q, R> LoadLevel<S, Q, R> {
    /// Calls the inner service through the queue, like `call`, but returns a refusal at once and hands
    /// the request back with it.
    ///
    /// Needs no `poll_ready`; with [`Overflow::Wait`] it uses the place that `poll_ready` has reserved.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the request is not admitted. One that is admitted and removed later is answered
    /// by the future.
    pub fn try_call<Req>(&mut self, request: Req) -> Result<ResponseFuture<S::Future>, Refused<Req>>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
    {
        // First, while nothing is held: it is user code.
        let deadline = self.request_classifier.classify(&request).deadline;
        let now = Instant::now();
        if let Err(reason) = self.core().ensure_drained() {
            return Err(self.refuse(reason, now, request));
        }
        if deadline.is_some_and(|at| at <= now) {
            return Err(self.refuse(Reason::Deadline, now, request));
        }
        let admitted = match self.admit() {
            Ok(admitted) => admitted,
            Err(reason) => return Err(self.refuse(reason, now, request)),
        };
        self.core().counters.admitted.add();
        let span = Span::current();
        Ok(match admitted {
            Admitted::Direct(in_flight) => match self.dispatch(span, request, now, in_flight) {
                Ok(future) => future,
                Err((span, request)) => {
                    self.core().places.return_slot();
                    self.enqueue(span, request, now, deadline)
                }
            },
            Admitted::Queued => self.enqueue(span, request, now, deadline),
        })
    }

    fn refuse<Req>(&self, reason: Reason, now: Instant, request: Req) -> Refused<Req> {
        Refused { rejected: self.core().refuse(reason, now), request }
    }

    /// Calls the inner right here: nothing waits, and there is a slot. `Err` when the inner is not ready.
    fn dispatch<Req>(
        &self,
        span: Span,
        request: Req,
        now: Instant,
        in_flight: usize,
    ) -> Result<ResponseFuture<S::Future>, (Span, Req)>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
    {
        let settings = &self.core().settings;
        // Then the drain task has a runtime, and the caller has none.
        if settings.execution == Execution::Spawn && !self.core().can_spawn() {
            return Err((span, request));
        }
        match self.inner.try_enter(&span, request, in_flight) {
            Entered::Called(future, in_flight) => {
                let inner = Arc::clone(&self.inner);
                let slot = InFlight::new(inner, now, Duration::ZERO, in_flight);
                let running = Running::new(future, slot, span);
                Ok(match settings.execution {
                    Execution::Caller => ResponseFuture::running(running),
                    Execution::Spawn => {
                        let (reply, answer) = oneshot::channel();
                        let cancel = settings.abandon == Abandon::Cancel;
                        self.core().spawn(Task::new(running, reply, cancel));
                        ResponseFuture::spawned(answer)
                    }
                })
            }
            Entered::Unready(request) | Entered::NoSlot(request) => Err((span, request)),
            Entered::Failed { failure, slot: _ } => {
                self.core().on_failure(&failure, true);
                match failure {
                    Failure::Unready(error) => Ok(ResponseFuture::failed(error)),
                    Failure::Dead(error) => Ok(ResponseFuture::failed(error.into())),
                    Failure::Panicked(panic) => resume_unwind(panic),
                }
            }
        }
    }

    fn enqueue<Req>(
        &self,
        span: Span,
        request: Req,
        now: Instant,
        deadline: Option<Instant>,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
    {
        self.core().on_queued(now);
        let (reply, answer) = oneshot::channel();
        let waits = Waits { inner: Arc::clone(&self.inner), request, span, reply };
        let job: Arc<dyn Job> = Arc::new(Request::new(waits, now, self.late(now, deadline)));
        let ticket = match self.core().settings.abandon {
            Abandon::Cancel => Some(Arc::clone(&job)),
            Abandon::Finish => None,
        };
        tracing::trace!("request queued");
        self.leveler.send(job);
        ResponseFuture::queued(answer, ticket)
    }
}

impl<S, Q, R, Req> Service<Req> for LoadLevel<S, Q, R>
where
    S: Service<Req> + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    Req: Send + 'static,
    Q: ClassifyRequest<Req>,
    R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.core().settings.overflow {
            Overflow::Wait => self.poll_place(cx).map(Ok),
            Overflow::Reject | Overflow::EvictOldest => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.try_call(request) {
            Ok(future) => future,
            Err(Refused { rejected, request: _ }) => ResponseFuture::rejected(rejected),
        }
    }
}

/// By hand, since a clone starts without a reserved place.
impl<S, Q, R> Clone for LoadLevel<S, Q, R> {
    fn clone(&self) -> Self {
        let Self { inner, leveler, request_classifier, reserved: _, turn: _ } = self;
        Self {
            inner: Arc::clone(inner),
            leveler: Arc::clone(leveler),
            request_classifier: Arc::clone(request_classifier),
            reserved: None,
            turn: Turn::default(),
        }
    }
}

impl<S, Q, R> Drop for LoadLevel<S, Q, R> {
    fn drop(&mut self) {
        self.leveler.core.waiters.forget(&mut self.turn);
        if let Some(Reserved::Place) = self.reserved {
            self.core().release_reserved();
        }
    }
}

impl<S, Q, R> fmt::Debug for LoadLevel<S, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, leveler: _, request_classifier: _, reserved, turn: _ } = self;
        f.debug_struct("LoadLevel")
            .field("inner", inner)
            .field("request_classifier", &Opaque)
            .field("reserved", &reserved.is_some())
            .finish_non_exhaustive()
    }
}

const _: () = {
    // Kept small: it is held by every refused call until it is polled.
    assert!(size_of::<Rejected>() <= 64);
};
