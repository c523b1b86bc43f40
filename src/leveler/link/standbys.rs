//! The standbys of the drain task.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{sync::Notify, time::Instant};

use crate::{leveler::runtime::RuntimeId, sync::Mutex};

/// The runtimes with a standby of the drain task: at most one on each.
#[derive(Debug, Default)]
pub(crate) struct Standbys(Mutex<BTreeMap<RuntimeId, Listed>>);

#[derive(Debug)]
struct Listed {
    /// The time of the standby's next look.
    looks_at: Option<Instant>,
    bell: Arc<Notify>,
}

impl Standbys {
    /// Lists a runtime, for the caller to spawn a standby. If a standby is already listed, returns
    /// `None`, and the standby looks no later than at `by`.
    pub(crate) fn join(&self, runtime: RuntimeId, by: Option<Instant>) -> Option<Arc<Notify>> {
        let mut listed = self.0.lock();
        if let Some(standby) = listed.get_mut(&runtime) {
            let is_sooner = by.zip(standby.looks_at).is_some_and(|(by, looks_at)| by < looks_at);
            if is_sooner {
                standby.looks_at = by;
                let bell = Arc::clone(&standby.bell);
                drop(listed);
                // Outside of the lock, since the bell wakes a task.
                bell.notify_one();
            }
            return None;
        }
        let bell = Arc::new(Notify::new());
        listed.insert(runtime, Listed { looks_at: None, bell: Arc::clone(&bell) });
        Some(bell)
    }

    /// Records the time of a standby's next look.
    pub(crate) fn looks_at(&self, runtime: RuntimeId, at: Instant) {
        if let Some(standby) = self.0.lock().get_mut(&runtime) {
            standby.looks_at = Some(at);
        }
    }

    /// Takes a runtime off the list.
    pub(crate) fn leave(&self, runtime: RuntimeId) {
        let listed = self.0.lock().remove(&runtime);
        drop(listed);
    }
}
