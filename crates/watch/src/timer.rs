//! Timers, on runtimes that may have none.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Returns a timer; `None` outside of a runtime, and on a runtime without timers. Tokio reports the
/// latter by a panic.
pub(crate) fn timer(at: Instant) -> Option<Pin<Box<Sleep>>> {
    tokio::runtime::Handle::try_current().ok()?;
    catch_unwind(AssertUnwindSafe(|| Box::pin(sleep_until(at)))).ok()
}
