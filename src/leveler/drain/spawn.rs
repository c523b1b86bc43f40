//! On which runtime the drain task and the calls run.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use tokio::{runtime, task};

use crate::error::Reason;
use crate::leveler::{
    Core, contain,
    core::{ABSENT, ALIVE},
    run,
};

impl Core {
    /// Makes sure that there is a drain task, or says why there can't be one.
    #[inline]
    pub(crate) fn ensure_drained(self: &Arc<Self>) -> Result<(), Reason> {
        if self.is_drained() { Ok(()) } else { self.start_draining() }
    }

    fn start_draining(self: &Arc<Self>) -> Result<(), Reason> {
        let current = || runtime::Handle::try_current().ok();
        let candidates = [self.settings.runtime.clone(), current()];
        for (index, runtime) in candidates.into_iter().enumerate() {
            let Some(runtime) = runtime else { continue };
            if self.drain.compare_exchange(ABSENT, ALIVE, SeqCst, SeqCst).is_err() {
                return Ok(());
            }
            tracing::debug!(name = %self.settings.name, "drain task started");
            // On a runtime that has shut down the task is dropped at once, which sets ABSENT.
            runtime.spawn(run::run(Arc::clone(self)));
            if self.is_drained() {
                return Ok(());
            }
            if index == 0 {
                self.runtime_ended.store(true, SeqCst);
            }
        }
        Err(Reason::NoRuntime)
    }

    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.drain.load(SeqCst) == ALIVE
    }

    /// Whether there is a runtime for a call made right now. FirstPoll by the look that costs least: a handle of
    /// the runtime is a reference count that all its threads share.
    pub(crate) fn can_spawn(&self) -> bool {
        self.given_runtime().is_some()
            || task::try_id().is_some()
            || runtime::Handle::try_current().is_ok()
    }

    /// Runs a call made right now as a task, on the runtime that was set or on the caller's; not before
    /// [`can_spawn`](Self::can_spawn) has said yes.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        // A task that is dropped outside of its runtime has an id and no runtime, and its drop may make a call: then
        // this panics, and the call is answered by its drop.
        contain(|| match self.given_runtime() {
            Some(runtime) => drop(runtime.spawn(call)),
            None => drop(tokio::spawn(call)),
        });
    }

    /// Whether a call made right now may be polled first where it is made. Not one that belongs to a runtime of its
    /// own; and not where there is no task, which its future may count on.
    #[inline]
    pub(crate) fn polls_inline(&self) -> bool {
        self.inline_polling.in_place() && self.given_runtime().is_none() && task::try_id().is_some()
    }

    #[inline]
    fn given_runtime(&self) -> Option<&runtime::Handle> {
        let given = self.settings.runtime.as_ref();
        given.filter(|_| !self.runtime_ended.load(SeqCst))
    }
}
