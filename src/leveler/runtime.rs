//! The runtime that calls run on.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::{
    runtime::Handle,
    task::{self, JoinHandle},
};

use super::contain::contain;

/// The runtime that was set, if there was one and it lives; else the one of whoever asks.
#[derive(Debug)]
pub(crate) struct Runtime {
    given: Option<Handle>,
    /// Whether the given runtime was found dead.
    has_ended: AtomicBool,
}

impl Runtime {
    pub(super) fn new(given: Option<Handle>) -> Self {
        Self { given, has_ended: AtomicBool::new(false) }
    }

    /// Returns the runtimes that the drain task may live on, the best first.
    pub(crate) fn candidates(&self) -> [Option<Handle>; 2] {
        [self.given.clone(), Handle::try_current().ok()]
    }

    /// Takes note that the given runtime is dead.
    pub(crate) fn set_ended(&self) {
        self.has_ended.store(true, SeqCst);
    }

    #[inline]
    fn given(&self) -> Option<&Handle> {
        self.given.as_ref().filter(|_| !self.has_ended.load(SeqCst))
    }

    /// Returns whether there is a runtime for a call made right now. The cheapest look comes first:
    /// a handle is a reference count that all threads of its runtime share.
    pub(crate) fn can_spawn(&self) -> bool {
        self.given().is_some() || task::try_id().is_some() || Handle::try_current().is_ok()
    }

    /// Runs a call made right now as a task, on the runtime that was set or on the caller's. Only
    /// after [`can_spawn`](Self::can_spawn) has returned true.
    pub(crate) fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        // A task that is dropped outside of its runtime has an id and no runtime, and its drop may
        // make a call. Then this panics, and the call is answered by its drop.
        let _: Option<JoinHandle<()>> = contain(|| match self.given() {
            Some(runtime) => runtime.spawn(call),
            None => tokio::spawn(call),
        });
    }

    /// Returns whether a call made right now belongs to the task that makes it. If not, its future
    /// must not be polled there: the call belongs to the runtime that was set, or its future may
    /// count on a task.
    #[inline]
    pub(crate) fn is_callers_task(&self) -> bool {
        self.given().is_none() && task::try_id().is_some()
    }
}
