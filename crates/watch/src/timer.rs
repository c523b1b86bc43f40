//! Timers that may not be there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Returns a timer, or `None` on a runtime without timers and outside of a runtime. Tokio says so
/// by a panic.
pub(crate) fn timer(at: Instant) -> Option<Pin<Box<Sleep>>> {
    tokio::runtime::Handle::try_current().ok()?;
    catch_unwind(AssertUnwindSafe(|| Box::pin(sleep_until(at)))).ok()
}
