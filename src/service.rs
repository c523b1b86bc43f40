use std::{
    fmt,
    ops::ControlFlow::{self, Break, Continue},
    panic::resume_unwind,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use crate::{
    by_result::ByResult,
    class::Class,
    classify::{ClassifyRequest, ClassifyResponse, Opaque, Unclassified},
    enqueue::{
        NotRun, NotSent, Outgoing, QueuedFuture, Unplaced, enqueue, may_not_wait,
        may_not_wait_for_a_place,
    },
    error::{Refused, Rejected},
    full_streak::FullStreak,
    future::ResponseFuture,
    handle::Handle,
    leveler::{
        admission::{
            Admission,
            admit::{Admitted, admit, admit_bypass},
            arrival::Arrival,
            place::Place,
            refusal::Refusal,
            slot::Slot,
            unserved::Unserved,
        },
        call::{
            context::CallContext,
            failure::{Failure, NotCalled},
            in_flight::{InFlight, Start},
            inner::Inner,
            running::Running,
            task::{self, Started},
        },
        drain::{runner::spawn_direct, spawn::ensure_drained, standby::ensure_standby},
        front::Front,
        inline_polling::FirstPoll,
        panics::contain,
    },
    next_place::NextPlace,
    options::{Execution, Overflow},
    respond::{CompleteOnResponse, Responder, TrackCompletion},
    stats::Count,
    traits::{InnerService, Respond},
};

/// The output of a call: the response after the hand-on, or the error of the inner service.
type Answer<S, Req, H> = Result<
    <H as TrackCompletion<<S as Service<Req>>::Response>>::Response,
    <S as Service<Req>>::Error,
>;

/// The future of a call.
type Call<S, Req, H> = ResponseFuture<<S as Service<Req>>::Future, Answer<S, Req, H>>;

/// A service behind the queue of a [`LoadLevelLayer`](crate::LoadLevelLayer).
///
/// Always `Clone`, and all clones share `S`. `Send` and `Sync` if `S` is `Send`.
///
/// By default `poll_ready` is always ready and reserves nothing, and `call` needs no `poll_ready`:
/// `call` decides at once whether the request is admitted, and the future says so. Only with
/// [`Overflow::Wait`] does `poll_ready` wait for a place. If the `poll_ready` of `S` fails, `S` is
/// dead, and `poll_ready` of all services around `S` fails too, for tower's `Balance` and
/// `Reconnect` to discard the services.
///
/// # Errors
///
/// [`Rejected`], [`ServiceError`](crate::error::ServiceError), or the error of `S` unchanged, each
/// as a [`BoxError`]. See [`error`](crate::error). `poll_ready` returns only
/// [`ServiceError`](crate::error::ServiceError).
///
/// # Panics
///
/// A panic of the inner service or of a classifier during a call reaches the caller of the call,
/// and nobody else. The panic comes mostly from the future, and otherwise from `call`.
///
/// # Cancel safety
///
/// Dropping the future of a waiting call frees the place at once. Dropping the future of a running
/// call drops the inner's future. With [`Abandon::Finish`](crate::Abandon::Finish) the work is done
/// all the same.
pub struct LoadLevel<S, Q = Unclassified, R = ByResult, H = CompleteOnResponse> {
    // Dropped first: the last service gives back its place before the leveler closes.
    /// The place for the next call, under `Overflow::Wait`.
    next_place: NextPlace,
    inner: Arc<Inner<S, Responder<R, H>>>,
    front: Arc<Front<Q>>,
    streak: FullStreak,
}

impl<S, Q, R, H> LoadLevel<S, Q, R, H> {
    #[inline]
    pub(crate) fn new(inner: Inner<S, Responder<R, H>>, front: Arc<Front<Q>>) -> Self {
        let streak = FullStreak::default();
        Self { inner: Arc::new(inner), front, next_place: NextPlace::Unasked, streak }
    }

    #[cfg(all(test, shuttle))]
    pub(crate) fn core(&self) -> &Arc<crate::leveler::core::Core> {
        &self.inner.core
    }

    /// Returns the handle of the leveler behind this service, the same as the layer's.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.front.leveler))
    }

    /// Calls the inner service through the queue, like `call`, but returns a refusal at once,
    /// together with the request.
    ///
    /// Needs no `poll_ready`. With [`Overflow::Wait`], a place reserved by `poll_ready` is used.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the request is not admitted. If an admitted request is removed later, the
    /// future resolves to the error.
    pub fn try_call<Req>(&mut self, request: Req) -> Result<Call<S, Req, H>, Refused<Req>>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
        H: TrackCompletion<S::Response, Response: Send + 'static> + Send + Sync + 'static,
    {
        self.attempt(request, false).map_err(|not_sent| not_sent.refuse(&self.inner.core))
    }

    /// Calls the inner service through the queue. If the thread has no runtime, returns the request
    /// if nothing can serve the call, or `may_defer` and a caller waits for the answer.
    #[inline(always)]
    fn attempt<Req>(
        &mut self,
        request: Req,
        may_defer: bool,
    ) -> Result<Call<S, Req, H>, NotSent<Req>>
    where
        S: Service<Req> + Send + 'static,
        S::Future: Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
        H: TrackCompletion<S::Response, Response: Send + 'static> + Send + Sync + 'static,
    {
        // Classify first, while no place is taken: a classifier is user code.
        let class = match self.inner.core.settings.is_switched_off() {
            false => self.front.request_classifier.classify(&request),
            true => Class::unlevelled(),
        };
        let (core, reserved) = (&*self.inner.core, self.next_place.take());
        let defers = may_defer && core.settings.gives_up();
        let admission = &core.admission;
        let mut arrival = admission.arrival(&class);
        let mut request = request;
        let refuse =
            |why, arrival: &Arrival, request| Err(NotSent::Refused(why, arrival.rank, request));
        let is_drained = ensure_drained(&self.inner.core).is_ok();
        if !is_drained && tokio::runtime::Handle::try_current().is_ok() {
            // A runtime in shutdown: the first poll would find no other runtime.
            return refuse(Refusal::NoRuntime, &arrival, request);
        }
        if !is_drained
            || reserved.is_some() && defers && core.runtime.is_missing(&core.runtime.of_caller())
        {
            return Err(NotSent::Unplaced(Box::new(Unplaced { request, class, reserved })));
        }
        admission.on_asked(&arrival);
        if class.bypass {
            match self.bypass(request, &mut arrival) {
                Break(done) => return done,
                // The inner is not ready. The request has to wait, like any other.
                Continue(back) => request = back,
            }
        }
        let context;
        let place = match admit(admission, &mut arrival, reserved) {
            Ok(Admitted::Run(slot)) => {
                match self.run(CallContext::capture(core), request, slot, &mut arrival) {
                    Ok(future) => return Ok(future),
                    Err(back) => {
                        (request, context) = (back.request, back.context);
                        Place::instead_of(back.slot, arrival.rank)
                    }
                }
            }
            Ok(Admitted::Wait(place)) => {
                context = CallContext::capture(core);
                place
            }
            Err(Refusal::Full) if may_not_wait_for_a_place(core) => {
                return refuse(Refusal::Nested, &arrival, request);
            }
            Err(why) => return refuse(why, &arrival, request),
        };
        if may_not_wait(&self.inner, &arrival) {
            drop(place);
            return refuse(Refusal::Nested, &arrival, request);
        }
        let runtime = core.runtime.of_caller();
        if defers && core.runtime.is_missing(&runtime) {
            drop(place);
            let unplaced = Unplaced { request, class, reserved: None };
            return Err(NotSent::Unplaced(Box::new(unplaced)));
        }
        let prepare = self.front.request_classifier.prepare();
        let outgoing = Outgoing { request, prepare, context };
        let to = (&self.inner, &*self.front.leveler);
        Ok(enqueue(to, outgoing, place, runtime, &mut arrival))
    }

    /// Calls the inner in a slot of the bypass budget. Goes on with the request if the inner is not
    /// ready.
    #[cold]
    #[allow(clippy::type_complexity, reason = "the result of an attempt, or the request")]
    fn bypass<Req>(
        &self,
        request: Req,
        arrival: &mut Arrival,
    ) -> ControlFlow<Result<QueuedFuture<S, Req, Responder<R, H>>, NotSent<Req>>, Req>
    where
        S: InnerService<Req>,
        Q: ClassifyRequest<Req>,
        Responder<R, H>: Respond<S::Response, S::Error>,
    {
        let core = &*self.inner.core;
        let slot = match admit_bypass(&core.admission) {
            Ok(slot) => slot,
            Err(why) => return Break(Err(NotSent::Refused(why, arrival.rank, request))),
        };
        match self.run(CallContext::capture(core), request, slot, arrival) {
            Ok(future) => Break(Ok(future)),
            Err(back) => Continue(back.request),
        }
    }

    /// Calls the inner on the caller's thread, without waiting. `Err` if the inner is not ready, or
    /// if no runtime can run the call.
    #[inline(always)]
    fn run<'a, Req>(
        &self,
        mut context: CallContext,
        request: Req,
        slot: Slot<&'a Admission>,
        arrival: &mut Arrival,
    ) -> Result<QueuedFuture<S, Req, Responder<R, H>>, NotRun<'a, Req>>
    where
        S: InnerService<Req>,
        Q: ClassifyRequest<Req>,
        Responder<R, H>: Respond<S::Response, S::Error>,
    {
        let core = &*self.inner.core;
        let execution = core.settings.execution;
        // The drain task has a runtime, but the caller's thread may have none.
        if execution == Execution::Spawn && !core.runtime.can_spawn() {
            return Err(NotRun { context, request, slot });
        }
        // The clock is read before the inner is called: the service time includes the inner's
        // `call`.
        let start = Start::at_once(arrival);
        let prepare = self.front.request_classifier.prepare();
        // Not a `match`, which would borrow the context until its end.
        let mut why = NotCalled::Unready;
        let polled = self.inner.try_ready(&mut context);
        let Ok(ready) = polled.map_err(|not_called| why = not_called) else {
            let NotCalled::Failed(failure) = why else {
                // The poll left no waker, so the drain task has to poll again.
                core.ask_again(self.inner.id());
                return Err(NotRun { context, request, slot });
            };
            slot.fail(failure.unserved(), arrival.rank.priority);
            contain(|| drop(request));
            return match failure {
                Failure::Panicked(panic) => resume_unwind(panic),
                Failure::Error(error) => Ok(ResponseFuture::failed(error)),
            };
        };
        let future = match ready.call(request, prepare, Duration::ZERO) {
            Ok(future) => future,
            Err(panic) => {
                slot.fail(Unserved::Panicked, arrival.rank.priority);
                resume_unwind(panic);
            }
        };
        let first = match slot.is_bypass() {
            // Bypassing calls have a separate budget and mostly differ from the rest: neither
            // measured nor polled inline.
            true => FirstPoll::OnTask,
            false => {
                FirstPoll::of(core.admission.counters.add(arrival.rank.priority, Count::Direct))
            }
        };
        let in_flight = InFlight::direct(slot, Arc::clone(&self.inner) as _, start);
        // From here on a panic drops the future before the slot.
        let running = Running::new(future, in_flight, context);
        running.tell_dispatched();
        if core.limiter.is_adaptive() && core.lacks_ticks(first, start.at) {
            ensure_standby(&self.inner.core, None);
        }
        Ok(match execution {
            Execution::Caller => ResponseFuture::running(running),
            Execution::Spawn => match task::start(core, running, first) {
                Started::Ended(reply) => ResponseFuture::answered(reply),
                Started::ToSpawn(call) => {
                    spawn_direct(core, Arc::clone(&call) as _);
                    ResponseFuture::sent(call, core.settings.gives_up())
                }
                Started::Given(call) => ResponseFuture::sent(call, core.settings.gives_up()),
            },
        })
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
    H: TrackCompletion<S::Response, Response: Send + 'static> + Send + Sync + 'static,
{
    type Response = H::Response;
    type Error = BoxError;
    type Future = Call<S, Req, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let Self { inner, next_place, .. } = self;
        if let Some(dead) = inner.dead() {
            // Gives up the place, or the wait for a place.
            *next_place = NextPlace::Unasked;
            return Poll::Ready(Err(dead.clone().into()));
        }
        let dead = || inner.dead().map(|dead| dead.clone().into());
        match inner.core.settings.overflow {
            Overflow::Wait => next_place.poll(&inner.core, dead, cx),
            Overflow::Reject | Overflow::EvictOldest => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.attempt(request, true) {
            Ok(future) => {
                self.streak.end();
                future
            }
            Err(NotSent::Refused(why, rank, request)) => {
                // Dropped before the future is made: a panic of the drop would leak the future.
                drop(request);
                self.streak.add(why, &self.inner.core);
                ResponseFuture::failed(self.inner.core.refuse(why, rank).into())
            }
            Err(NotSent::Unplaced(unplaced)) => {
                let prepare = self.front.request_classifier.prepare();
                unplaced.defer(&self.inner, &self.front.leveler, prepare)
            }
        }
    }
}

/// Implemented by hand, since a clone starts without a reserved place, and without refusals.
impl<S, Q, R, H> Clone for LoadLevel<S, Q, R, H> {
    fn clone(&self) -> Self {
        let Self { inner, front, next_place: _, streak: _ } = self;
        let (next_place, streak) = (NextPlace::Unasked, FullStreak::default());
        Self { inner: Arc::clone(inner), front: Arc::clone(front), next_place, streak }
    }
}

impl<S, Q, R, H> fmt::Debug for LoadLevel<S, Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, front: _, next_place, streak: _ } = self;
        f.debug_struct("LoadLevel")
            .field("inner", inner)
            .field("request_classifier", &Opaque)
            .field("reserved", &next_place.is_held())
            .finish_non_exhaustive()
    }
}

const _: () = {
    // Kept small: a refused call holds a `Rejected` until the first poll.
    assert!(size_of::<Rejected>() <= 64);
};
