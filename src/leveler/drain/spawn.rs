use std::sync::Arc;

use super::run::run;
use crate::{error::Reason, leveler::core::Core};

/// Ensures a running drain task, or returns the reason for having none.
#[inline]
pub(crate) fn ensure_drained(core: &Arc<Core>) -> Result<(), Reason> {
    if core.link.is_alive() { Ok(()) } else { spawn(core) }
}

fn spawn(core: &Arc<Core>) -> Result<(), Reason> {
    for (index, runtime) in core.runtime.candidates().into_iter().enumerate() {
        let Some(runtime) = runtime else { continue };
        if !core.link.begin() {
            return Ok(());
        }
        // Made before the event: if a subscriber panics, its drop ends the link.
        let task = run(Arc::clone(core));
        tracing::debug!(name = %core.settings.name, "drain task started");
        // A runtime after shutdown drops the task at once, which ends the link.
        runtime.spawn(task);
        if core.link.is_alive() {
            return Ok(());
        }
        if index == 0 {
            core.runtime.set_ended();
        }
    }
    Err(Reason::NoRuntime)
}
