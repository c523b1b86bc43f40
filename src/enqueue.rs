//! Queueing of a call: at once, or when its future is first polled.

use std::sync::Arc;

use tokio::runtime::Handle;
use tower_service::Service;

use crate::{
    class::{Class, Rank},
    classify::Prepare,
    error::Refused,
    future::ResponseFuture,
    leveler::{
        admission::{
            Admission,
            admit::{Admitted, admit},
            arrival::Arrival,
            place::Place,
            refusal::Refusal,
            reservation::Reserved,
            slot::Slot,
        },
        call::{
            context::CallContext,
            inner::Inner,
            queued::{CallParts, QueuedCall},
        },
        core::Core,
        drain::spawn::ensure_drained,
        front::Leveler,
        nesting::is_within,
        runtime::RuntimeId,
    },
    options::Overflow,
    traits::{InnerService, Respond},
};

/// The future of a call, in code that knows one [`Responder`](crate::respond::Responder).
pub(crate) type QueuedFuture<S, Req, R> = ResponseFuture<
    <S as Service<Req>>::Future,
    Result<
        <R as Respond<<S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Response,
        <S as Service<Req>>::Error,
    >,
>;

/// A request on the way to the queue, with the parts that travel along.
pub(crate) struct Outgoing<Req> {
    pub(crate) request: Req,
    pub(crate) prepare: Option<Prepare<Req>>,
    pub(crate) context: CallContext,
}

/// Puts an admitted request into the queue. `runtime` is the runtime of the calling thread.
#[inline(always)]
pub(crate) fn enqueue<S, Req, R>(
    (inner, leveler): (&Arc<Inner<S, R>>, &Leveler),
    outgoing: Outgoing<Req>,
    place: Place<&Admission>,
    runtime: Option<Handle>,
    arrival: &mut Arrival,
) -> QueuedFuture<S, Req, R>
where
    S: InnerService<Req>,
    Req: Send + 'static,
    R: Respond<S::Response, S::Error>,
{
    let place = place.map(|_| Arc::clone(inner));
    let Outgoing { request, prepare, context } = outgoing;
    let caller = runtime.as_ref().map(RuntimeId::of);
    let is_nested = context.is_nested();
    let is_first = place.enqueue(arrival.now());
    let parts = CallParts { place, request, prepare, context, runtime };
    let call = Arc::new(QueuedCall::new(inner, parts, arrival));
    let gives_up = inner.core.settings.gives_up();
    // Made before anything that may panic: its drop cancels the call.
    let future = ResponseFuture::sent(Arc::clone(&call) as _, gives_up);
    tracing::trace!(name = %inner.core.settings.name, "request queued");
    let newcomer = call.into_newcomer(inner.id(), is_first);
    match is_nested && newcomer.late.is_none() {
        true => leveler.send_nested(newcomer, caller),
        false => leveler.send(newcomer, caller),
    }
    // The inner's death may have been announced before this request joined the waiting requests.
    if inner.dead().is_some() {
        inner.fail_waiting();
    }
    future
}

/// A call made on a thread without a runtime. The first poll of the future admits the call, mostly
/// on a thread with a runtime: `runtime.block_on(service.call(request))`.
pub(crate) struct Unplaced<Req> {
    pub(crate) request: Req,
    pub(crate) class: Class,
    pub(crate) reserved: Option<Reserved<Arc<Core>>>,
}

impl<Req> Unplaced<Req> {
    /// Returns the future of the call.
    #[cold]
    pub(crate) fn defer<S, R>(
        self,
        inner: &Arc<Inner<S, R>>,
        leveler: &Arc<Leveler>,
        prepare: Option<Prepare<Req>>,
    ) -> QueuedFuture<S, Req, R>
    where
        S: InnerService<Req>,
        Req: Send + 'static,
        R: Respond<S::Response, S::Error>,
    {
        let Self { request, class, reserved } = self;
        let (inner, leveler) = (Arc::clone(inner), Arc::clone(leveler));
        let context = CallContext::capture(&inner.core);
        ResponseFuture::deferred(Box::new(move || {
            let core = &*inner.core;
            let admission = &core.admission;
            let mut arrival = admission.arrival(&class);
            let admitted = match ensure_drained(&inner.core) {
                Ok(()) => admit(&core.admission, &mut arrival, reserved),
                Err(_) => Err(Refusal::NoRuntime),
            };
            let place = match admitted {
                Ok(Admitted::Run(slot)) => Place::instead_of(slot, arrival.rank),
                Ok(Admitted::Wait(place)) => place,
                Err(why) => {
                    let rejected = core.refuse(why, arrival.rank);
                    drop(request);
                    return ResponseFuture::failed(rejected.into());
                }
            };
            let (runtime, outgoing) =
                (core.runtime.of_caller(), Outgoing { request, prepare, context });
            enqueue((&inner, &leveler), outgoing, place, runtime, &mut arrival)
        }))
    }
}

/// A request that could not run at once, with its context and its slot.
pub(crate) struct NotRun<'a, Req> {
    pub(crate) context: CallContext,
    pub(crate) request: Req,
    pub(crate) slot: Slot<&'a Admission>,
}

/// A request that was not admitted.
pub(crate) enum NotSent<Req> {
    Refused(Refusal, Rank, Req),
    /// The thread has no runtime.
    Unplaced(Box<Unplaced<Req>>),
}

impl<Req> NotSent<Req> {
    /// Counts and returns the refusal.
    pub(crate) fn refuse(self, core: &Core) -> Refused<Req> {
        let (why, rank, request) = match self {
            Self::Refused(why, rank, request) => (why, rank, request),
            Self::Unplaced(unplaced) => (Refusal::NoRuntime, unplaced.class.rank, unplaced.request),
        };
        Refused { rejected: core.refuse(why, rank), request }
    }
}

/// Returns whether an admitted request must not wait: the request is nested, nothing bounds the
/// wait, and the slots, or the inner, may be held up by calls that wait for the nested call.
#[inline]
pub(crate) fn may_not_wait<S, Req, R>(inner: &Arc<Inner<S, R>>, arrival: &Arrival) -> bool
where
    S: InnerService<Req>,
    R: Respond<S::Response, S::Error>,
{
    is_within(inner.core.id()) && nested_may_not_wait(inner, arrival)
}

#[cold]
fn nested_may_not_wait<S, Req, R>(inner: &Arc<Inner<S, R>>, arrival: &Arrival) -> bool
where
    S: InnerService<Req>,
    R: Respond<S::Response, S::Error>,
{
    let core = &inner.core;
    if arrival.left.is_some() || core.admission.max_wait.get().get().is_some() {
        return false;
    }
    if !core.admission.may_dispatch_with_all(arrival.rank.cost as usize) {
        return true;
    }
    let rank = arrival.rank;
    if core.admission.flow_limit.concerns(rank) && !core.link.backlog().queue.has_flow_room(rank) {
        return true;
    }
    let is_unready = inner.is_unready(&mut CallContext::capture(core));
    // The poll left no waker, so the drain task has to poll again.
    core.ask_again(inner.id());
    is_unready
}

/// Returns whether a nested call must not wait for a place, since nothing bounds the wait.
#[inline]
pub(crate) fn may_not_wait_for_a_place(core: &Core) -> bool {
    core.settings.overflow == Overflow::Wait
        && is_within(core.id())
        && core.admission.max_wait.get().get().is_none()
}
