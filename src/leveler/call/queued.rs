//! One request while it waits.

use std::{
    cell::Cell,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;
use tracing::Span;

use crate::leveler::{
    Core,
    exchange::{Exchange, Stage},
    in_flight::{InFlight, IsOk, Running, Start},
    inner::{Entered, Failure, Inner, Judge},
    prediction::Budget,
    reply::{Reply, ReplyChannel, ReplyTo},
    task::Task,
};
use crate::{
    class::{Prepare, Rank},
    error::{Reason, Rejected},
    options::Execution,
    queue::{ChargeId, InnerId, QueueItem},
};

/// A request in the queue, whatever its type and that of its inner.
///
/// Shared by the line and the caller. It ends by exactly one of: [`dispatch`](Self::dispatch),
/// [`remove`](Self::remove), or its caller, who [leaves](ReplyChannel::leave).
pub(crate) trait Job: Send + Sync {
    fn lane(&self) -> InnerId;
    fn rank(&self) -> Rank;
    /// How many slots it will take.
    fn cost(&self) -> usize;
    fn admitted(&self) -> Instant;
    /// Until when it may wait, and what to say then.
    fn late(&self) -> Option<Late>;
    /// Until when it is of use to its caller.
    fn deadline(&self) -> Option<Instant>;
    /// By what it is predicted whether it will be late; by nothing, if it was let in against that.
    fn predicted_by(&self) -> Budget;
    /// Whether it does not wait: it has ended, by whatever way, or the drain task has it in hand.
    fn is_gone(&self) -> bool;
    /// Whether it can't come back: it was removed or cancelled.
    fn has_left(&self) -> bool;
    /// Calls the inner, on the drain task, which has charged it: the bill is open until it ends.
    fn dispatch(self: Arc<Self>, now: Instant, bill: Option<ChargeId>) -> Dispatched;
    /// Answers `Rejected`. `false` if it had gone.
    fn remove(&self, why: Removal) -> bool;
}

/// When a request is late, and by which of the two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) at: Instant,
    pub(crate) reason: Reason,
}

/// Why a request is taken out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) reason: Reason,
    /// Whether it was the share of its own flow that was used up.
    pub(crate) over_share: bool,
}

impl From<Reason> for Removal {
    fn from(reason: Reason) -> Self {
        Self { reason, over_share: false }
    }
}

/// What came of an attempt to dispatch.
pub(crate) enum Dispatched {
    /// It runs.
    Started,
    /// It was gone, or has been answered, and was not called.
    Ended,
    /// It was called, and that panicked.
    Panicked,
    /// It waits on, since its inner is not ready.
    Unready(Arc<dyn Job>),
    /// It waits on, since no slot is free.
    NoSlot(Arc<dyn Job>),
}

impl QueueItem for Arc<dyn Job> {
    fn is_gone(&self) -> bool {
        (**self).is_gone()
    }

    fn has_left(&self) -> bool {
        (**self).has_left()
    }

    fn late(&self) -> Option<Instant> {
        (**self).late().map(|late| late.at)
    }
}

pub(crate) struct QueuedCall<S, Req, R, A>
where
    S: Service<Req>,
{
    lane: InnerId,
    terms: Terms,
    exchange: Exchange<CallParts<S, Req, R>, Reply<S::Future, A>>,
}

/// What a request was admitted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Its cost is what it has places for: no more than the limit was then.
    pub(crate) rank: Rank,
    /// The cost that it was given: the limit may rise.
    pub(crate) asked: u32,
    pub(crate) admitted: Instant,
    /// How long it is allowed to wait.
    pub(crate) max_wait: After,
    pub(crate) deadline: After,
    pub(crate) budget: Budget,
    /// Whether it was let in to find out whether what was predicted is right.
    pub(crate) is_probe: bool,
}

impl Terms {
    /// The earlier of the two, and the deadline where they are the same.
    fn late(&self) -> Option<Late> {
        let (after, reason) = match self.deadline <= self.max_wait {
            true => (self.deadline, Reason::Deadline),
            false => (self.max_wait, Reason::MaxWait),
        };
        after.of(self.admitted).map(|at| Late { at, reason })
    }
}

/// A time after an admission, or never: half the bytes of an instant, for there are two of it in each request that
/// waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct After(u64);

impl After {
    const NEVER: Self = Self(u64::MAX);

    /// Five centuries are never.
    pub(crate) fn new(time: Option<Duration>) -> Self {
        let nanos = time.and_then(|time| u64::try_from(time.as_nanos()).ok());
        nanos.map_or(Self::NEVER, Self)
    }

    fn of(self, admitted: Instant) -> Option<Instant> {
        let is_ever = self != Self::NEVER;
        is_ever.then(|| admitted.checked_add(Duration::from_nanos(self.0))).flatten()
    }
}

/// All that is dropped at the moment a request goes; what remains is an empty shell in the line.
pub(crate) struct CallParts<S, Req, R> {
    pub(crate) inner: Arc<Inner<S, R>>,
    pub(crate) request: Req,
    /// Done to the request before its dispatch.
    pub(crate) prepare: Option<Prepare<Req>>,
    pub(crate) span: Span,
}

impl<S, Req, R, A> QueuedCall<S, Req, R, A>
where
    S: Service<Req>,
{
    pub(crate) fn new(waits: CallParts<S, Req, R>, terms: Terms) -> Self {
        Self { lane: waits.inner.lane(), terms, exchange: Exchange::new(waits) }
    }

    /// CallParts on, unless the caller has given up in the meantime.
    fn put_back(&self, waits: CallParts<S, Req, R>) {
        if let Err(waits) = self.exchange.put_back(waits) {
            self.cancelled(waits);
        }
    }

    /// The one way out for a request whose caller has gone before it was dispatched.
    fn cancelled(&self, waits: CallParts<S, Req, R>) {
        let core = &waits.inner.core;
        let before = core.counters.cancelled.add();
        self.give_up_places(core);
        // The shells of many that have gone are swept out by the drain task, now and then; and it may have
        // been waiting for this one to end.
        let counts = core.places.counts();
        // It may also have held up others, for want of slots.
        let may_go = counts.waiting() > 0 && core.places.may_dispatch(1);
        if may_go || before % SWEEP == SWEEP - 1 || counts.is_closed() {
            core.wake();
        }
        // Last, since it is user code: the place is free whatever it does.
        drop(waits);
    }

    /// Gives back its places without having been dispatched.
    fn give_up_places(&self, core: &Core) {
        core.door.on_dequeued(self.terms.rank);
        core.release_waiting(self.terms.rank.cost as usize);
    }
}

/// Does something in its drop, unless it is forgotten: when what follows panics, as a subscriber of `tracing` may.
struct OnUnwind<F: Fn()>(F);

impl<F: Fn()> Drop for OnUnwind<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// How many may go before the drain task is woken to look whether there are shells to drop.
const SWEEP: u64 = 1024;

impl<S, Req, R, A> Job for QueuedCall<S, Req, R, A>
where
    S: Service<Req> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    <S::Future as Future>::Output: IsOk + Send + 'static,
    Req: Send + 'static,
    R: Send + Sync + 'static,
    A: Send + 'static,
    Inner<S, R>: Judge<<S::Future as Future>::Output, A>,
{
    fn lane(&self) -> InnerId {
        self.lane
    }

    fn rank(&self) -> Rank {
        self.terms.rank
    }

    fn cost(&self) -> usize {
        self.terms.asked as usize
    }

    fn admitted(&self) -> Instant {
        self.terms.admitted
    }

    fn late(&self) -> Option<Late> {
        self.terms.late()
    }

    fn deadline(&self) -> Option<Instant> {
        self.terms.deadline.of(self.terms.admitted)
    }

    fn predicted_by(&self) -> Budget {
        if self.terms.is_probe { Budget::NONE } else { self.terms.budget }
    }

    fn is_gone(&self) -> bool {
        !self.exchange.is_at(Stage::Waiting)
    }

    fn has_left(&self) -> bool {
        self.exchange.is_at(Stage::Gone)
    }

    fn dispatch(self: Arc<Self>, now: Instant, bill: Option<ChargeId>) -> Dispatched {
        let Some(CallParts { inner, request, prepare, span }) = self.exchange.take(Stage::InHand)
        else {
            return Dispatched::Ended;
        };
        let unanswered = OnUnwind(|| drop(self.exchange.answer(Reply::lost())));
        let core = &inner.core;
        let (execution, abandon) = (core.settings.execution, core.settings.abandon);
        let Terms { rank, asked, admitted, budget, .. } = self.terms;
        let (held, asked) = (rank.cost as usize, asked as usize);
        let wait = now.saturating_duration_since(admitted);
        let ready = |request: &mut Req| {
            if let Some(prepare) = prepare {
                prepare(request, wait);
            }
        };
        let taken = Cell::new(None);
        let take_slots = || {
            taken.set(core.places.take_slots(held, asked));
            taken.get()
        };
        let not_called = OnUnwind(|| {
            core.door.on_dequeued(rank);
            core.on_failure(&Failure::Panicked(Box::new(())), held, taken.get());
        });
        let entered = inner.enter(&span, request, ready, take_slots);
        mem::forget(not_called);
        match entered {
            Entered::Unready(request) => {
                mem::forget(unanswered);
                self.put_back(CallParts { inner, request, prepare, span });
                Dispatched::Unready(self)
            }
            Entered::NoSlot(request) => {
                mem::forget(unanswered);
                self.put_back(CallParts { inner, request, prepare, span });
                Dispatched::NoSlot(self)
            }
            Entered::Failed { failure, slots } => {
                core.door.on_dequeued(rank);
                core.on_failure(&failure, held, slots);
                mem::forget(unanswered);
                ReplyTo::Queued(self).send(Reply::Failed(failure));
                if slots.is_some() { Dispatched::Panicked } else { Dispatched::Ended }
            }
            Entered::Called(future, slots) => {
                core.door.on_dequeued(rank);
                core.wait.record(wait);
                let priority = rank.priority;
                let start = Start { at: now, wait, priority, budget, slots, bill };
                let running = Running::new(future, InFlight::new(inner, start), span);
                mem::forget(unanswered);
                let reply = ReplyTo::Queued(self);
                match execution {
                    Execution::Spawn => {
                        drop(tokio::spawn(Task::new(running, reply, abandon, false)));
                    }
                    // If the caller has gone, this drops the call and frees its slot.
                    Execution::Caller => reply.send(Reply::Run(Box::new(running))),
                }
                Dispatched::Started
            }
        }
    }

    fn remove(&self, why: Removal) -> bool {
        let Removal { reason, over_share } = why;
        let Some(CallParts { inner, request, span, .. }) = self.exchange.take(Stage::Gone) else {
            return false;
        };
        let unanswered = OnUnwind(|| drop(self.exchange.answer(Reply::lost())));
        let core = &inner.core;
        let waited = Instant::now().saturating_duration_since(self.terms.admitted);
        core.counters.removed.add(self.terms.rank.priority, reason);
        self.give_up_places(core);
        let rejected = Rejected { over_share, ..core.rejected(reason, waited) };
        span.in_scope(|| {
            let name = &*core.settings.name;
            tracing::debug!(
                %name,
                reason = reason.as_str(),
                waited = waited.as_secs_f64(),
                "request removed"
            );
        });
        mem::forget(unanswered);
        self.send(Reply::error(rejected));
        drop(request);
        true
    }
}

impl<S, Req, R, A> ReplyChannel<S::Future, A> for QueuedCall<S, Req, R, A>
where
    S: Service<Req> + Send,
    S::Future: Send,
    <S::Future as Future>::Output: Send,
    Req: Send,
    R: Send + Sync,
    A: Send,
{
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Reply<S::Future, A>> {
        self.exchange.poll_answer(cx)
    }

    fn close(&self, gives_up: bool) {
        if let Some(waits) = self.exchange.abandon(gives_up) {
            self.cancelled(waits);
        }
    }

    fn send(&self, reply: Reply<S::Future, A>) {
        drop(self.exchange.answer(reply));
    }

    fn is_closed(&self) -> bool {
        self.exchange.is_abandoned()
    }

    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.exchange.poll_abandoned(cx)
    }
}

impl<S, Req, R, A> Drop for QueuedCall<S, Req, R, A>
where
    S: Service<Req>,
{
    /// It was still waiting, and nobody has it any more, not even its caller.
    fn drop(&mut self) {
        if let Some(waits) = self.exchange.take(Stage::Gone) {
            let core = &waits.inner.core;
            core.counters.removed.add(self.terms.rank.priority, Reason::Closed);
            self.give_up_places(core);
        }
    }
}
