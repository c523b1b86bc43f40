//! Panics of user code: kept from everybody but the caller of the user code.
//!
//! A panic of an inner's `poll_ready` or `call` is caught in [`call::inner`](super::call::inner), a
//! panic of its future in [`call::running`](super::call::running); both reach the caller as
//! [`Failure::Panicked`](super::call::inner::Failure). A panic of a limit algorithm is caught in
//! [`limiter`](super::limiter). [`contain`] is for the rest: drops, and whatever the drain task
//! runs on behalf of a single request.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code that may call user code (a `Drop`, say). Returns `None` if the code panics.
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}
