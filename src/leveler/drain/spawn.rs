use std::sync::Arc;

use super::standby::spawn;
use crate::{error::Reason, leveler::core::Core};

/// Ensures a running drain task, or returns the reason for having none.
#[inline]
pub(crate) fn ensure_drained(core: &Arc<Core>) -> Result<(), Reason> {
    if core.link.seat.is_taken() { Ok(()) } else { begin(core) }
}

fn begin(core: &Arc<Core>) -> Result<(), Reason> {
    for (index, runtime) in core.runtime.candidates().into_iter().enumerate() {
        let Some(runtime) = runtime else { continue };
        let Some(generation) = core.link.seat.begin(&runtime) else { return Ok(()) };
        spawn(core, &runtime, generation);
        if core.link.seat.is_taken() {
            return Ok(());
        }
        if index == 0 {
            core.runtime.set_ended();
        }
    }
    Err(Reason::NoRuntime)
}
