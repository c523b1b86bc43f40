use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    core::Core,
    drain::{spawn::ensure_drained, standby::ensure_standby},
    link::{backlog::CHANNEL, job::Job},
    runtime::RuntimeId,
    settings::Given,
};
use crate::{
    error::Reason,
    limit::Algorithm,
    sync::atomic::{Ordering::SeqCst, fence},
};

/// The sending side, shared by layers, handles and services, but not by requests and the drain
/// task.
pub(crate) struct Leveler {
    pub(crate) core: Arc<Core>,
    sender: mpsc::Sender<Arc<dyn Job>>,
}

/// The parts of a service other than the inner. A single `Arc` holds all: axum clones a service for
/// every request, and all threads share each reference count.
pub(crate) struct Front<Q> {
    pub(crate) leveler: Arc<Leveler>,
    pub(crate) request_classifier: Arc<Q>,
}

impl Leveler {
    pub(crate) fn new(settings: Given, algorithm: Option<Box<dyn Algorithm>>) -> Self {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        Self { core: Arc::new(Core::new(settings, algorithm, receiver)), sender }
    }

    /// Sends an admitted request to the drain task. Never waits: if the channel is full, the caller
    /// moves the content into the queue, and drops the requests that have gone.
    ///
    /// `caller` is the runtime of the calling thread. If the drain task is elsewhere, a standby
    /// watches it from there.
    pub(crate) fn send(&self, job: Arc<dyn Job>, caller: Option<RuntimeId>) {
        let is_elsewhere = || caller.is_some_and(|caller| !self.core.link.seat.is_at(caller));
        let late = if is_elsewhere() { job.late() } else { None };
        let mut job = job;
        while let Err(mpsc::error::TrySendError::Full(back)) = self.sender.try_send(job) {
            job = back;
            let live = self.core.admission.occupancy.queued();
            self.core.link.backlog().help(live);
        }
        // Pairs with the fence of a dying drain task. Either the dying task finds the request in
        // the channel, or the load below sees the death, and another task is started.
        fence(SeqCst);
        if !self.core.link.seat.is_taken() && ensure_drained(&self.core).is_err() {
            self.core.link.remove_all(Reason::Closed);
        }
        // After the request was counted: see `drain::standby`.
        if is_elsewhere() {
            ensure_standby(&self.core, late.map(|late| late.at));
        }
    }
}

impl Drop for Leveler {
    fn drop(&mut self) {
        self.core.close();
        if !self.core.link.seat.is_taken() {
            self.core.link.remove_all(Reason::Closed);
        }
        // The sender is dropped next, and wakes the drain task to end.
    }
}
