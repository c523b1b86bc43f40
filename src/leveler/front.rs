use std::sync::{
    Arc,
    atomic::{Ordering::SeqCst, fence},
};

use tokio::sync::mpsc;

use crate::leveler::{Core, Settings, places::CHANNEL, queued::Job};
use crate::{error::Reason, limit::Algorithm};

/// What layers, handles and services share, and requests and the drain task do not: the sending side.
pub(crate) struct Leveler {
    pub(crate) core: Arc<Core>,
    sender: mpsc::Sender<Arc<dyn Job>>,
}

/// What services have in common beside their inner. In one piece, since axum clones a service for every request, and
/// each count of references is one that all threads share.
pub(crate) struct Front<Q> {
    pub(crate) leveler: Arc<Leveler>,
    pub(crate) request_classifier: Arc<Q>,
}

impl Leveler {
    pub(crate) fn new(settings: Settings, algorithm: Option<Box<dyn Algorithm>>) -> Self {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        Self { core: Arc::new(Core::new(settings, algorithm, receiver)), sender }
    }

    /// Sends an admitted request to the drain task. It never waits: when the channel is full, what is in
    /// it is moved into the line, where those that have gone are dropped.
    pub(crate) fn send(&self, job: Arc<dyn Job>) {
        let mut job = job;
        while let Err(mpsc::error::TrySendError::Full(back)) = self.sender.try_send(job) {
            job = back;
            let live = self.core.queued();
            self.core.backlog().help(live);
        }
        // Pairs with the fence of a dying drain task: either it finds this request in the channel, or we
        // see that it has died and start another.
        fence(SeqCst);
        if !self.core.is_drained() && self.core.ensure_drained().is_err() {
            self.core.answer_all(Reason::Closed);
        }
    }
}

impl Drop for Leveler {
    fn drop(&mut self) {
        self.core.close();
        if !self.core.is_drained() {
            self.core.answer_all(Reason::Closed);
        }
        // The sender goes next, and wakes the drain task for its end.
    }
}
