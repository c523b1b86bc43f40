//! A call for a task to run, with its types erased.

use std::{
    any::Any,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A call that a task runs, with the types of its future and its answer erased.
pub(crate) trait TaskCall: Send + Sync {
    /// Polls the work, for the task of the call. At the end, the caller is answered, and then
    /// `after_end` called with the core: the slot is free, and the drain task was not told of it.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
        after_end: AfterEnd<'_>,
    ) -> Poll<()>;
    /// Ends the call, whose task was dropped before the end.
    fn on_runtime_lost(&self);
}

/// What to do after the end of a call. The argument is the core, of which this module knows
/// nothing.
pub(crate) type AfterEnd<'a> = &'a mut dyn FnMut(&dyn Any);

/// A call that was made, and the runtime for its task: `None` for that of the calling thread.
pub(crate) struct ToRun {
    pub(crate) call: Arc<dyn TaskCall>,
    pub(crate) runtime: Option<Handle>,
}

/// The progress of a call, as its task knows it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Set if the next poll is the first, and measured.
    pub(crate) is_measured: bool,
    /// Set once the channel has the waker of the task, which never changes.
    pub(crate) is_noted: bool,
}
