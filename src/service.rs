use std::{
    fmt,
    panic::resume_unwind,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;
use tracing::{Span, level_filters::LevelFilter};

use crate::{
    class::{Class, ClassifyRequest, ClassifyResponse, Opaque, Rank},
    error::{Refused, Rejected},
    future::ResponseFuture,
    leveler::{
        Core, Failure, Front, Inner, Prediction, Refusal, WaiterId,
        in_flight::{InFlight, Running, Start},
        inline_poll::FirstPoll,
        inner::Entered,
        places::{Admitted, Denied},
        prediction::Budget,
        queued::{After, CallParts, QueuedCall, Terms},
        reservation::{Reservation, Reserved},
        task::{self, Started},
    },
    options::{Abandon, Execution, Overflow},
    respond::{AsIs, HandOn, Responder},
};

/// What the caller of an inner service gets: a response as it was handed on, or an error.
type Answer<S, Req, H> =
    Result<<H as HandOn<<S as Service<Req>>::Response>>::Response, <S as Service<Req>>::Error>;

/// The future of a call.
type Call<S, Req, H> = ResponseFuture<<S as Service<Req>>::Future, Answer<S, Req, H>>;

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
pub struct LoadLevel<S, Q, R, H = AsIs> {
    inner: Arc<Inner<S, Responder<R, H>>>,
    front: Arc<Front<Q>>,
    /// What `poll_ready` has reserved, under `Overflow::Wait`.
    reserved: Option<Reserved>,
    turn: WaiterId,
}

impl<S, Q, R, H> LoadLevel<S, Q, R, H> {
    pub(crate) fn new(inner: Inner<S, Responder<R, H>>, front: Arc<Front<Q>>) -> Self {
        Self { inner: Arc::new(inner), front, reserved: None, turn: WaiterId::default() }
    }

    fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// CallParts for a place, under `Overflow::Wait`.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reserved.is_some() {
            return Poll::Ready(());
        }
        self.reserved = self.core().places.reserve();
        if self.reserved.is_none() {
            self.inner.core.waiters.register(&mut self.turn, cx.waker());
            // Once more, since a place may have been freed before we were registered.
            self.reserved = self.core().places.reserve();
        }
        if self.reserved.is_none() {
            // The drain task sees to it that a sleeper does not keep the place that woke it. Without a
            // runtime there is none, and nobody who sleeps either.
            let _ = self.core().ensure_drained();
            return Poll::Pending;
        }
        self.inner.core.waiters.forget(&mut self.turn);
        // Who asks whether all is idle may have taken the place for that of a request.
        self.core().idle.notify();
        Poll::Ready(())
    }

    /// Takes places for a newcomer, by its reservation if there is one.
    fn admit(&self, rank: Rank, mut reservation: Reservation<'_>) -> Result<Admitted, Refusal> {
        let core = self.core();
        let direct = !core.is_paced();
        let admitted = if rank.cost == 1 && reservation.use_up() {
            core.places.admit_reserved(direct).inspect_err(|_| {
                // Closed since; the place is still ours.
                core.release_waiting(1);
            })
        } else {
            drop(reservation);
            let when_full = |missing| core.door.when_full(core.settings.overflow, rank, missing);
            core.places.admit(rank.cost as usize, direct, when_full)
        };
        admitted.map_err(|denied| match denied {
            Denied::Full => Refusal::NoPlace,
            Denied::Closed => Refusal::Closed,
        })
    }
}

impl<S, Q, R, H> LoadLevel<S, Q, R, H> {
    /// Calls the inner service through the queue, like `call`, but returns a refusal at once and hands
    /// the request back with it.
    ///
    /// Needs no `poll_ready`; with [`Overflow::Wait`] it uses the place that `poll_ready` has reserved.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the request is not admitted. One that is admitted and removed later is answered
    /// by the future.
    pub fn try_call<Req>(&mut self, request: Req) -> Result<Call<S, Req, H>, Refused<Req>>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
        H: HandOn<S::Response, Response: Send + 'static> + Send + Sync + 'static,
    {
        // FirstPoll, while nothing is held: it is user code.
        let Class { deadline, rank, bypass } = self.front.request_classifier.classify(&request);
        let reserved = self.reserved.take();
        let this = &*self;
        let core = this.core();
        let reservation = Reservation { core, reserved };
        let asked = rank.cost;
        let rank = Rank { cost: core.places.weight(asked), ..rank };
        let refuse = |why, request| {
            let rejected = core.refuse(why, rank);
            Err(Refused { rejected, request })
        };
        if core.ensure_drained().is_err() {
            return refuse(Refusal::NoRuntime, request);
        }
        // The clock is not looked at but by need: that is a quarter of what a refusal costs.
        let early = deadline.map(|_| Instant::now());
        let now = || early.unwrap_or_else(Instant::now);
        let left = deadline.map(|at| at.saturating_duration_since(now()));
        let budget = left.map_or(Budget::NONE, Budget::of);
        let mut request = request;
        if bypass {
            if let Err(why) = this.begin_bypass() {
                return refuse(why, request);
            }
            let start = Start::at(now(), rank.priority, budget);
            match this.dispatch(current_span(), request, start) {
                Ok(future) => return Ok(future),
                // Its inner is not ready: then it has to wait, as one of the others.
                Err((_, back)) => request = back,
            }
            core.end_bypass();
        }
        let is_probe = match this.let_in(rank, budget, left, now) {
            Ok(predicted) => predicted == Prediction::Probe,
            Err(why) => return refuse(why, request),
        };
        let admitted = match this.admit(rank, reservation) {
            Ok(admitted) => admitted,
            Err(why) => return refuse(why, request),
        };
        let now = now();
        let start = Start::at(now, rank.priority, budget);
        let mut span = current_span();
        if let Admitted::Direct(slots) = admitted {
            match this.dispatch(span, request, Start { slots, ..start }) {
                Ok(future) => return Ok(future),
                Err(back) => (span, request) = back,
            }
            core.places.return_slots(slots.taken);
        }
        core.counters.queued.add(rank.priority);
        let max_wait = After::new(core.max_wait());
        let deadline = After::new(deadline.map(|at| at.saturating_duration_since(now)));
        let terms = Terms { rank, asked, admitted: now, max_wait, deadline, budget, is_probe };
        Ok(this.enqueue(span, request, terms))
    }

    /// Whether a newcomer may ask for a place, and what is predicted of it.
    fn let_in(
        &self,
        rank: Rank,
        budget: Budget,
        left: Option<Duration>,
        now: impl Fn() -> Instant,
    ) -> Result<Prediction, Refusal> {
        let core = self.core();
        let predicted = match left {
            None => Prediction::InTime,
            Some(Duration::ZERO) => return Err(Refusal::Late),
            Some(left) => core.would_be_in_time(rank, budget, left, now())?,
        };
        let is_open = core.door.is_open_to(rank, core.places.limit(), now);
        if is_open { Ok(predicted) } else { Err(Refusal::CutOff) }
    }

    fn begin_bypass(&self) -> Result<(), Refusal> {
        let core = self.core();
        if core.places.counts().is_closed() {
            return Err(Refusal::Closed);
        }
        if core.begin_bypass() { Ok(()) } else { Err(Refusal::Bypass) }
    }

    /// Calls the inner right here, without waiting. `Err` when the inner is not ready.
    fn dispatch<Req>(
        &self,
        span: Span,
        request: Req,
        start: Start,
    ) -> Result<Call<S, Req, H>, (Span, Req)>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
        H: HandOn<S::Response, Response: Send + 'static> + Send + Sync + 'static,
    {
        let settings = &self.core().settings;
        // Then the drain task has a runtime, and the caller has none.
        if settings.execution == Execution::Spawn && !self.core().can_spawn() {
            return Err((span, request));
        }
        let ready = |request: &mut Req| {
            if let Some(prepare) = self.front.request_classifier.prepare() {
                prepare(request, Duration::ZERO);
            }
        };
        match self.inner.try_enter(&span, request, ready, start.slots) {
            Entered::Called(future, _) => {
                let first = match start.is_bypass() {
                    // On a budget of its own, and of another kind than most.
                    true => FirstPoll::OnTask,
                    false => FirstPoll::of(self.core().counters.direct.add(start.priority)),
                };
                let in_flight = InFlight::new(Arc::clone(&self.inner) as _, start);
                Ok(match settings.execution {
                    Execution::Caller => {
                        ResponseFuture::running(Running::new(future, in_flight, span))
                    }
                    Execution::Spawn => {
                        match task::start(self.core(), future, in_flight, span, first) {
                            Started::Ended(reply) => ResponseFuture::answered(reply),
                            Started::Spawned(answer) => ResponseFuture::spawned(answer),
                        }
                    }
                })
            }
            Entered::Unready(request) | Entered::NoSlot(request) => {
                // It was asked without leaving our waker: the drain task has to ask again.
                self.core().ask_again(self.inner.lane());
                Err((span, request))
            }
            Entered::Failed { failure, slots: _ } => {
                if start.is_bypass() {
                    self.core().end_bypass();
                } else {
                    self.core().counters.queued.add(start.priority);
                    self.core().on_failure(&failure, 0, Some(start.slots));
                }
                match failure {
                    Failure::Panicked(panic) => resume_unwind(panic),
                    Failure::Error(error) => Ok(ResponseFuture::failed(error)),
                }
            }
        }
    }

    fn enqueue<Req>(&self, span: Span, request: Req, terms: Terms) -> Call<S, Req, H>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
        H: HandOn<S::Response, Response: Send + 'static> + Send + Sync + 'static,
    {
        self.core().on_queued(terms.rank, terms.admitted);
        let prepare = self.front.request_classifier.prepare();
        let waits = CallParts { inner: Arc::clone(&self.inner), request, prepare, span };
        let job = Arc::new(QueuedCall::new(waits, terms));
        tracing::trace!("request queued");
        self.front.leveler.send(Arc::clone(&job) as _);
        let gives_up = self.core().settings.abandon == Abandon::Cancel;
        ResponseFuture::queued(job, gives_up)
    }
}

impl<S, Q, R, H, Req> Service<Req> for LoadLevel<S, Q, R, H>
where
    S: Service<Req> + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    Req: Send + 'static,
    Q: ClassifyRequest<Req>,
    R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
    H: HandOn<S::Response, Response: Send + 'static> + Send + Sync + 'static,
{
    type Response = H::Response;
    type Error = BoxError;
    type Future = Call<S, Req, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.core().settings.overflow {
            Overflow::Wait => self.poll_place(cx).map(Ok),
            Overflow::Reject | Overflow::EvictOldest => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.try_call(request) {
            Ok(future) => future,
            Err(Refused { rejected, request: _ }) => ResponseFuture::failed(rejected.into()),
        }
    }
}

/// The span of the caller. That is not asked for where nobody listens, as is seen at a glance.
fn current_span() -> Span {
    if LevelFilter::current() == LevelFilter::OFF { Span::none() } else { Span::current() }
}

/// By hand, since a clone starts without a reserved place.
impl<S, Q, R, H> Clone for LoadLevel<S, Q, R, H> {
    fn clone(&self) -> Self {
        let Self { inner, front, reserved: _, turn: _ } = self;
        Self {
            inner: Arc::clone(inner),
            front: Arc::clone(front),
            reserved: None,
            turn: WaiterId::default(),
        }
    }
}

impl<S, Q, R, H> Drop for LoadLevel<S, Q, R, H> {
    fn drop(&mut self) {
        self.inner.core.waiters.forget(&mut self.turn);
        if let Some(Reserved::Place) = self.reserved {
            self.core().release_reserved();
        }
    }
}

impl<S, Q, R, H> fmt::Debug for LoadLevel<S, Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, front: _, reserved, turn: _ } = self;
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
