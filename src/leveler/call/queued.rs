use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};
use tower_service::Service;

use super::{
    context::CallContext,
    exchange::{Exchange, Stage},
    failure::{Failure, NotCalled},
    in_flight::{InFlight, Start},
    inner::{Inner, Judge},
    reply::{Reply, TaskChannel, Work},
    running::Running,
    task::{CallExchange, end},
    terms::Terms,
    unanswered::Unanswered,
};
use crate::{
    class::Rank,
    classify::Prepare,
    error::{Reason, Rejected},
    leveler::{
        admission::{arrival::Arrival, place::Place, unserved::Unserved},
        core::Core,
        link::{
            job::{AtTurn, Dispatched, Job, Late, Newcomer, Removal},
            task_call::{TaskCall, UnpolledWork},
        },
        max_wait::After,
        panics::contain,
        runtime::RuntimeId,
    },
    options::Execution,
    queue::{ChargeId, FlowRight, InnerId},
    traits::InnerService,
};

/// A request in the queue, shared with its caller, and later with the task of the call.
///
/// When queue or caller ends the request, everything in [`CallParts`] is dropped on the spot. A
/// tombstone stays in the queue.
pub(crate) struct QueuedCall<S: InnerService<Req>, Req, R, A> {
    /// The runtime of the caller, where the call runs.
    home: RuntimeId,
    terms: Terms,
    exchange: CallExchange<CallParts<S, Req, R>, S::Future, A>,
}

/// The guard of a call taken out of the queue and not yet answered.
type Pending<'a, S, Req, R, A> = Unanswered<
    'a,
    CallParts<S, Req, R>,
    Work<<S as Service<Req>>::Future, A>,
    Reply<<S as Service<Req>>::Future, A>,
>;

/// The parts of a waiting call.
pub(crate) struct CallParts<S, Req, R> {
    pub(crate) place: Place<Arc<Inner<S, R>>>,
    pub(crate) request: Req,
    /// Applied to the request before dispatch.
    pub(crate) prepare: Option<Prepare<Req>>,
    pub(crate) context: CallContext,
    /// The runtime of the caller, where the call is made and runs. `None` for the runtime of the
    /// drain task.
    pub(crate) runtime: Option<Handle>,
}

impl<S: InnerService<Req>, Req, R, A> QueuedCall<S, Req, R, A> {
    /// Makes a waiting call.
    #[inline(always)]
    pub(crate) fn new(
        inner: &Inner<S, R>,
        parts: CallParts<S, Req, R>,
        arrival: &mut Arrival,
    ) -> Self {
        let terms = Terms::new(arrival, inner.core.admission.max_wait.get());
        let home = parts.runtime.as_ref().map_or(RuntimeId::NONE, RuntimeId::of);
        Self { home, terms, exchange: Exchange::new(parts) }
    }

    /// Returns the call for `inner` as the item for the queue. `is_first` says whether no request
    /// of the priority waited before.
    #[inline(always)]
    pub(crate) fn into_newcomer(self: Arc<Self>, inner: InnerId, is_first: bool) -> Newcomer
    where
        Req: Send + 'static,
        R: Send + Sync + 'static,
        A: Send + 'static,
        Inner<S, R>: Judge<<S::Future as Future>::Output, A>,
    {
        let Terms { rank, admitted, .. } = self.terms;
        let late = self.terms.late();
        Newcomer { inner, rank, admitted, late, is_first, job: self }
    }

    /// Returns whether a request must not wait: the call is nested, and nothing bounds the wait.
    fn must_not_wait(&self, context: &CallContext) -> bool {
        context.is_nested() && self.terms.late().is_none()
    }

    /// Ends a request before dispatch, and answers the caller. Returns whether the place was held.
    fn end(
        &self,
        parts: CallParts<S, Req, R>,
        why: Removal,
        unanswered: Pending<'_, S, Req, R, A>,
    ) -> bool {
        let CallParts { place, request, prepare: _, mut context, runtime: _ } = parts;
        let Some(inner) = place.end(Unserved::Removed(why.reason)) else { return false };
        inner.core.on_left(self.terms.rank, self.terms.asked);
        let rejected = rejected(&inner.core, &mut context, &self.terms, why);
        // The answer stands, even if the drop of the request panics.
        unanswered.end();
        drop(self.exchange.answer(Reply::error(rejected)));
        drop(request);
        true
    }

    /// Lets a request wait on whose inner is unready. Answers if the inner failed, or if the
    /// request must not wait.
    #[cold]
    fn on_not_called(
        &self,
        unanswered: Pending<'_, S, Req, R, A>,
        parts: CallParts<S, Req, R>,
        why: NotCalled,
    ) -> Dispatched {
        match why {
            NotCalled::Failed(failure) => {
                self.fail(parts.place, failure, unanswered);
                contain(|| drop(parts.request));
                Dispatched::Ended
            }
            NotCalled::Unready if self.must_not_wait(&parts.context) => {
                self.end(parts, Reason::Nested.into(), unanswered);
                Dispatched::Ended
            }
            NotCalled::Unready => {
                self.put_back(parts);
                unanswered.end();
                Dispatched::Unready
            }
        }
    }

    /// Answers the caller of a request whose inner failed, or panicked in the call.
    #[cold]
    fn fail(
        &self,
        place: Place<Arc<Inner<S, R>>>,
        failure: Failure,
        unanswered: Pending<'_, S, Req, R, A>,
    ) {
        let inner = place.end(failure.unserved());
        unanswered.end();
        // If the caller has gone, this drops the failure.
        contain(|| drop(self.exchange.answer(Reply::Failed(failure))));
        // This may be the last reference to the inner. Its drop is user code, and comes after the
        // answer.
        contain(|| drop(inner));
    }

    /// Lets the request wait on, or cancels if the caller has given up in the meantime.
    fn put_back(&self, parts: CallParts<S, Req, R>) {
        if let Err(parts) = self.exchange.put_back(parts) {
            cancel(parts, &self.terms);
        }
    }
}

/// Ends a request before dispatch, after the caller has gone.
#[inline(always)]
fn cancel<S, Req, R>(parts: CallParts<S, Req, R>, terms: &Terms) {
    let CallParts { place, request, prepare: _, context, runtime: _ } = parts;
    if let Some(inner) = place.grantor() {
        // First: the free place wakes the drain task.
        inner.core.on_left(terms.rank, terms.asked);
    }
    place.cancel(terms.admitted);
    // User code comes last: the place is free even if a drop panics.
    drop((request, context));
}

impl<S, Req, R, A> Job for QueuedCall<S, Req, R, A>
where
    S: InnerService<Req>,
    Req: Send + 'static,
    R: Send + Sync + 'static,
    A: Send + 'static,
    Inner<S, R>: Judge<<S::Future as Future>::Output, A>,
{
    fn rank(&self) -> Rank {
        self.terms.rank
    }

    fn cost(&self) -> usize {
        self.terms.asked as usize
    }

    fn late(&self) -> Option<Late> {
        self.terms.late()
    }

    fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.terms.admitted)
    }

    fn at_turn(&self, waited: Duration) -> AtTurn {
        self.terms.at_turn(waited)
    }

    fn must_not_wait(&self) -> bool {
        self.exchange.has(|parts| self.must_not_wait(&parts.context))
    }

    fn home(&self) -> RuntimeId {
        self.home
    }

    fn is_gone(&self) -> bool {
        !self.exchange.is_at(Stage::Waiting)
    }

    fn has_left(&self) -> bool {
        self.exchange.is_at(Stage::Gone)
    }

    fn dispatch(
        &self,
        now: Instant,
        waited: Duration,
        charge: Option<ChargeId>,
        right: &mut Option<FlowRight>,
        at_once: Option<&mut Option<UnpolledWork>>,
    ) -> Dispatched {
        // First, and so dropped last: the answer tells of books that balance.
        let unanswered = Unanswered::new(&self.exchange, Reply::broken_off);
        let Some(mut parts) = self.exchange.take(Stage::InHand) else {
            unanswered.end();
            return Dispatched::Ended;
        };
        let Some(inner) = parts.place.grantor() else { return Dispatched::Ended };
        // The inner may make timers in its `call`, and timers need a driven runtime.
        let seat = &inner.core.link.seat;
        let foreign = parts.runtime.as_ref().filter(|runtime| !seat.is_at(RuntimeId::of(runtime)));
        let in_runtime = foreign.map(Handle::enter);
        // Not a `match`, which would borrow the context until its end.
        let mut why = NotCalled::Unready;
        let polled = inner.poll_ready(&mut parts.context);
        let Ok(ready) = polled.map_err(|not_called| why = not_called) else {
            drop(in_runtime);
            return self.on_not_called(unanswered, parts, why);
        };
        if !parts.place.take_slot(self.terms.asked as usize, right) {
            drop((ready, in_runtime));
            self.put_back(parts);
            unanswered.end();
            return Dispatched::NoSlot;
        }
        let called = ready.call(parts.request, parts.prepare, waited);
        drop(in_runtime);
        let future = match called {
            Ok(future) => future,
            Err(panic) => {
                self.fail(parts.place, Failure::Panicked(panic), unanswered);
                return Dispatched::Panicked;
            }
        };
        let Terms { rank, budget, kind, holds_body, .. } = self.terms;
        inner.core.metrics.wait.record(rank.priority, waited);
        let execution = inner.core.settings.execution;
        let start = Start {
            at: now,
            wait: After::new(Some(waited)),
            priority: rank.priority,
            budget,
            kind,
            charge,
            holds_body,
        };
        let Some(in_flight) = InFlight::queued(parts.place, start) else {
            return Dispatched::Ended;
        };
        let work = Box::new(Running::new(future, in_flight, parts.context));
        work.tell_dispatched();
        unanswered.end();
        match (execution, at_once) {
            // As in a poll, the task has the work in hand.
            (Execution::Spawn, Some(at_once)) => {
                *at_once = Some(work);
                return Dispatched::ToRun(parts.runtime);
            }
            // Before the task exists: a caller that gives up frees the slot even if the runtime
            // never polls the task.
            (Execution::Spawn, None) => match self.exchange.put_work(Box::into_pin(work), None) {
                Ok(()) => return Dispatched::ToRun(parts.runtime),
                Err(work) => end(work),
            },
            // If the caller has gone, this drops the call and frees the slot.
            (Execution::Caller, _) => drop(contain(|| self.send(Reply::Run(Box::into_pin(work))))),
        }
        Dispatched::Called
    }

    fn into_task(self: Arc<Self>) -> Arc<dyn TaskCall> {
        self
    }

    fn remove(&self, why: Removal) -> bool {
        let Some(parts) = self.exchange.take(Stage::Gone) else { return false };
        let unanswered = Unanswered::new(&self.exchange, Reply::lost);
        self.end(parts, why, unanswered)
    }

    fn refuse_nested(&self) -> bool {
        // The outer calls may have ended since the admission.
        let is_taken = |parts: &CallParts<S, Req, R>| self.must_not_wait(&parts.context);
        let Some(parts) = self.exchange.take_if(Stage::Gone, is_taken) else { return false };
        let unanswered = Unanswered::new(&self.exchange, Reply::lost);
        self.end(parts, Reason::Nested.into(), unanswered)
    }
}

/// Returns the answer to a removed request, and logs the removal in the caller's context.
fn rejected(core: &Core, context: &mut CallContext, terms: &Terms, why: Removal) -> Rejected {
    let Removal { reason, over_share } = why;
    let waited = Instant::now().saturating_duration_since(terms.admitted);
    core.admission.removed_wait.record(terms.rank.priority, waited);
    let rejected = core.rejected(reason, waited, terms.rank).with_over_share(over_share);
    contain(|| {
        let _entered = context.enter();
        let (name, waited) = (&*core.settings.name, waited.as_secs_f64());
        tracing::debug!(%name, reason = reason.as_str(), waited, "request removed");
    });
    rejected
}

mod channels;
