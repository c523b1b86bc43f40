//! The task that takes samples.

use std::sync::{Mutex, PoisonError, atomic::AtomicBool};

use tokio::task::JoinHandle;

/// The task that takes samples. The task holds the dashboard weakly, and is aborted when the last
/// clone of the dashboard is gone.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    pub(crate) task: Mutex<Option<JoinHandle<()>>>,
    /// Set by a task on a runtime without timers: another task would end there as well.
    pub(crate) lacks_timers: AtomicBool,
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}
