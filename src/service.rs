use std::{
    fmt,
    panic::resume_unwind,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;
use tracing::{Span, level_filters::LevelFilter};

use crate::{
    bounds::{InnerService, Respond},
    by_result::ByResult,
    class::{ClassifyRequest, ClassifyResponse, Opaque, Unclassified},
    error::{Refused, Rejected},
    future::ResponseFuture,
    leveler::{
        admission::{
            Admission,
            admit::{Admitted, admit, admit_bypass},
            arrival::Arrival,
            place::Place,
            refusal::Refusal,
            reservation::Reserved,
            slot::Slot,
            waiter::Waiter,
        },
        call::{
            in_flight::{InFlight, Start},
            inner::{Attempt, Failure, Inner, Readiness},
            queued::{CallParts, QueuedCall},
            running::Running,
            task::{self, Started},
        },
        contain::contain,
        core::Core,
        drain::spawn::ensure_drained,
        front::Front,
        inline_polling::FirstPoll,
    },
    options::{Abandon, Execution, Overflow},
    respond::{CompleteOnResponse, Responder, TrackCompletion},
};

/// What the caller of an inner service gets: a response as it was handed on, or an error.
type Answer<S, Req, H> = Result<
    <H as TrackCompletion<<S as Service<Req>>::Response>>::Response,
    <S as Service<Req>>::Error,
>;

/// The future of a call.
type Call<S, Req, H> = ResponseFuture<<S as Service<Req>>::Future, Answer<S, Req, H>>;

/// A service behind the queue of its [`LoadLevelLayer`](crate::LoadLevelLayer).
///
/// `Clone`, `Send` and `Sync` whatever `S` is, as long as `S` is `Send`; all clones share `S`.
///
/// By default `poll_ready` is always ready and reserves nothing, and `call` needs no `poll_ready`:
/// it decides at once whether the request is admitted, and the future it returns says so. Only with
/// [`Overflow::Wait`] does `poll_ready` wait for a place.
///
/// # Errors
///
/// [`Rejected`], [`ServiceError`](crate::error::ServiceError), or the error of `S` as it is, all as
/// [`BoxError`]: see [`error`](crate::error).
///
/// # Panics
///
/// A panic of the inner service, or of a classifier, reaches the caller of that one call: usually
/// from the future, or from `call` itself.
///
/// # Cancel safety
///
/// Dropping the future of a call frees its place at once if it waits, and drops the inner's future
/// if it runs. With [`Abandon::Finish`] the work is done all the same.
pub struct LoadLevel<S, Q = Unclassified, R = ByResult, H = CompleteOnResponse> {
    inner: Arc<Inner<S, Responder<R, H>>>,
    front: Arc<Front<Q>>,
    /// What `poll_ready` has reserved, under `Overflow::Wait`.
    reserved: Option<Reserved<Arc<Core>>>,
    /// While `poll_ready` waits.
    waiter: Option<Waiter<Arc<Core>>>,
}

impl<S, Q, R, H> LoadLevel<S, Q, R, H> {
    pub(crate) fn new(inner: Inner<S, Responder<R, H>>, front: Arc<Front<Q>>) -> Self {
        Self { inner: Arc::new(inner), front, reserved: None, waiter: None }
    }

    /// Calls the inner service through the queue, like `call`, but returns a refusal at once and
    /// hands the request back with it.
    ///
    /// Needs no `poll_ready`; with [`Overflow::Wait`] it uses the place that `poll_ready` has
    /// reserved.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the request is not admitted. A request that is admitted and removed later is
    /// answered by the future.
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
        // First, while no place is taken: it is user code.
        let class = self.front.request_classifier.classify(&request);
        let (core, reserved) = (&*self.inner.core, self.reserved.take());
        let admission = &core.admission;
        let mut arrival = Arrival::new(&class, admission.limit());
        let mut request = request;
        let refuse = |why, arrival: &Arrival, request| {
            let rejected = core.refuse(why, arrival.rank);
            Err(Refused { rejected, request })
        };
        if ensure_drained(&self.inner.core).is_err() {
            return refuse(Refusal::NoRuntime, &arrival, request);
        }
        if class.bypass {
            let slot = match admit_bypass(admission) {
                Ok(slot) => slot,
                Err(why) => return refuse(why, &arrival, request),
            };
            match self.run(current_span(), request, slot, &mut arrival) {
                Ok(future) => return Ok(future),
                // Its inner is not ready. Then it has to wait, like any other request.
                Err(back) => request = back.request,
            }
        }
        match admit(admission, &mut arrival, reserved) {
            Ok(Admitted::Run(slot)) => {
                match self.run(current_span(), request, slot, &mut arrival) {
                    Ok(future) => Ok(future),
                    Err(NotRun { span, request, slot }) => {
                        let place = Place::instead_of(slot, arrival.rank);
                        Ok(self.enqueue(span, request, place, &mut arrival))
                    }
                }
            }
            Ok(Admitted::Wait(place)) => {
                Ok(self.enqueue(current_span(), request, place, &mut arrival))
            }
            Err(why) => refuse(why, &arrival, request),
        }
    }

    /// Calls the inner right here, without waiting. `Err` if the inner is not ready, or if there is
    /// no runtime to run the call on.
    fn run<'a, Req>(
        &self,
        span: Span,
        request: Req,
        slot: Slot<&'a Admission>,
        arrival: &mut Arrival,
    ) -> Result<RespondingCall<S, Req, R, H>, NotRun<'a, Req>>
    where
        S: InnerService<Req>,
        Q: ClassifyRequest<Req>,
        Responder<R, H>: Respond<S::Response, S::Error>,
    {
        let core = &*self.inner.core;
        let execution = core.settings.execution;
        // The drain task has a runtime, and this caller may have none.
        if execution == Execution::Spawn && !core.runtime.can_spawn() {
            return Err(NotRun { span, request, slot });
        }
        let attempt = match self.inner.try_poll_ready(&span) {
            Readiness::Ready(ready) => {
                let prepare = self.front.request_classifier.prepare();
                Attempt::called(ready.call(request, prepare, Duration::ZERO))
            }
            Readiness::Unready => Attempt::Unready(request),
            Readiness::Failed(failure) => Attempt::Failed(failure, Some(request)),
        };
        let future = match attempt {
            Attempt::Called(future) => future,
            Attempt::Unready(request) | Attempt::NoSlot(request) => {
                // It was asked without leaving our waker: the drain task has to ask again.
                core.ask_again(self.inner.id());
                return Err(NotRun { span, request, slot });
            }
            Attempt::Failed(failure, request) => {
                slot.fail(failure.unserved(), arrival.rank.priority);
                contain(|| drop(request));
                return match failure {
                    Failure::Panicked(panic) => resume_unwind(panic),
                    Failure::Error(error) => Ok(ResponseFuture::failed(error)),
                };
            }
        };
        let first = match slot.is_bypass() {
            // On a budget of its own, and of another kind than most.
            true => FirstPoll::OnTask,
            false => FirstPoll::of(core.admission.counters.direct.add(arrival.rank.priority)),
        };
        let in_flight =
            InFlight::direct(slot, Arc::clone(&self.inner) as _, Start::at_once(arrival));
        Ok(match execution {
            Execution::Caller => ResponseFuture::running(Running::new(future, in_flight, span)),
            Execution::Spawn => match task::start(core, future, in_flight, span, first) {
                Started::Ended(reply) => ResponseFuture::answered(reply),
                Started::Spawned(answer) => ResponseFuture::spawned(answer),
            },
        })
    }

    /// Sends the request to the drain task.
    fn enqueue<Req>(
        &self,
        span: Span,
        request: Req,
        place: Place<&Admission>,
        arrival: &mut Arrival,
    ) -> RespondingCall<S, Req, R, H>
    where
        S: InnerService<Req>,
        Req: Send + 'static,
        Q: ClassifyRequest<Req>,
        Responder<R, H>: Respond<S::Response, S::Error>,
    {
        let place = place.map(|_| Arc::clone(&self.inner));
        let prepare = self.front.request_classifier.prepare();
        let parts = CallParts { place, request, prepare, span };
        let call = Arc::new(QueuedCall::new(&self.inner, parts, arrival));
        tracing::trace!("request queued");
        self.front.leveler.send(Arc::clone(&call) as _);
        let gives_up = self.inner.core.settings.abandon == Abandon::Cancel;
        ResponseFuture::queued(call, gives_up)
    }

    /// Waits for a place, under `Overflow::Wait`.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reserved.is_some() {
            return Poll::Ready(());
        }
        let core = &self.inner.core;
        let reserve = || Reserved::take(&core.admission, || Arc::clone(core));
        self.reserved = reserve();
        if self.reserved.is_none() {
            match &self.waiter {
                Some(waiter) => waiter.renew(cx.waker()),
                None => self.waiter = Some(Waiter::join(Arc::clone(core), cx.waker())),
            }
            // Again, since a place may have been freed before the waiter was in the list.
            self.reserved = reserve();
        }
        if self.reserved.is_none() {
            // The drain task sees to it that a sleeping service does not keep the place that it was
            // woken for. Without a runtime there is no drain task, and no service sleeps.
            let _ = ensure_drained(core);
            return Poll::Pending;
        }
        self.waiter = None;
        // A drain may have counted this place as that of a request.
        self.inner.core.admission.listeners.idle.notify();
        Poll::Ready(())
    }
}

/// The future of a call, for code that knows the response side as one.
type RespondingCall<S, Req, R, H> =
    ResponseFuture<
        <S as Service<Req>>::Future,
        Result<
            <Responder<R, H> as Respond<
                <S as Service<Req>>::Response,
                <S as Service<Req>>::Error,
            >>::Response,
            <S as Service<Req>>::Error,
        >,
    >;

/// A request that could not run at once, with all that it came with.
struct NotRun<'a, Req> {
    span: Span,
    request: Req,
    slot: Slot<&'a Admission>,
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
        match self.inner.core.settings.overflow {
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

/// Returns the span of the caller. Does not ask for it if nobody listens, which is known at a
/// glance.
fn current_span() -> Span {
    if LevelFilter::current() == LevelFilter::OFF { Span::none() } else { Span::current() }
}

/// By hand, since a clone starts without a reserved place.
impl<S, Q, R, H> Clone for LoadLevel<S, Q, R, H> {
    fn clone(&self) -> Self {
        let Self { inner, front, reserved: _, waiter: _ } = self;
        Self { inner: Arc::clone(inner), front: Arc::clone(front), reserved: None, waiter: None }
    }
}

impl<S, Q, R, H> fmt::Debug for LoadLevel<S, Q, R, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, front: _, reserved, waiter: _ } = self;
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
