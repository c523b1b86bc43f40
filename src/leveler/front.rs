use std::sync::Arc;

use super::{
    core::Core,
    drain::{spawn::ensure_drained, standby::ensure_standby},
    link::job::{Late, Newcomer},
    runtime::RuntimeId,
    settings::Given,
};
use crate::{class::Rank, error::Reason, limit::Algorithm};

/// The side of the callers, shared by layers, handles and services, but not by requests and the
/// drain task.
pub(crate) struct Leveler {
    pub(crate) core: Arc<Core>,
}

/// The parts of a service other than the inner. A single `Arc` holds all: axum clones a service for
/// every request, and all threads share each reference count.
pub(crate) struct Front<Q> {
    pub(crate) leveler: Arc<Leveler>,
    pub(crate) request_classifier: Arc<Q>,
}

impl Leveler {
    pub(crate) fn new(settings: Given, algorithm: Option<Box<dyn Algorithm>>) -> Self {
        Self { core: Arc::new(Core::new(settings, algorithm)) }
    }

    /// Puts an admitted request into the queue. Never waits: the lock is held for single steps, and
    /// no code of users runs under it.
    ///
    /// `caller` is the runtime of the calling thread. If the drain task is elsewhere, a standby on
    /// `caller` watches the drain task.
    pub(crate) fn send(&self, newcomer: Newcomer, caller: Option<RuntimeId>) {
        let core = &self.core;
        let Newcomer { rank, late, is_first, .. } = newcomer;
        let live = || core.admission.occupancy.queued();
        let is_next_late = core.link.backlog().add(newcomer, live);
        if late.is_some() {
            core.link.mark();
        }
        // After the request was put in. A call that ends later sees the waiting request, and wakes
        // the drain task. If the call ended before, and the drain task found nothing, a slot is
        // free now.
        if is_first || is_next_late || rank != Rank::default() || core.admission.needs_drain() {
            core.wake();
        }
        // A dying drain task says that it is gone before it removes the requests, under the lock of
        // the queue. Either the drain task finds the request, or this check sees the death.
        if !core.link.seat.is_taken() && ensure_drained(core).is_err() {
            core.link.remove_all(Reason::Closed);
        }
        // After the request was counted: see `drain::standby`.
        if caller.is_some_and(|caller| !core.link.seat.is_at(caller)) {
            ensure_standby(core, late.map(|late: Late| late.at));
        }
    }

    /// Puts a nested request into the queue that must not wait without a bound. At the end of its
    /// turn, the drain task refuses the request if the request still waits.
    #[cold]
    pub(crate) fn send_nested(&self, newcomer: Newcomer, caller: Option<RuntimeId>) {
        let (inner, job) = (newcomer.inner, Arc::clone(&newcomer.job));
        self.send(newcomer, caller);
        // After the request was put in: a turn that finds the request here has dispatched what it
        // could of the queue, with the request in it.
        self.core.link.backlog().add_nested(inner, job);
        self.core.link.mark();
        self.core.wake();
    }
}

impl Drop for Leveler {
    fn drop(&mut self) {
        self.core.close();
        if !self.core.link.seat.is_taken() {
            self.core.link.remove_all(Reason::Closed);
        }
        self.core.link.orphan();
        self.core.wake();
    }
}
