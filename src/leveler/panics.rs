//! Panics of user code: kept from everybody but the caller of the user code.
//!
//! A panic of an inner's `poll_ready` or `call` is caught in [`call::inner`](super::call::inner), a
//! panic of its future in [`call::running`](super::call::running); both reach the caller as
//! [`Failure::Panicked`](super::call::failure::Failure). A panic of a limit algorithm is caught in
//! [`limiter`](super::limiter). [`contain`] is for the rest: drops, wakers, and the drain task's
//! work for a single request.
//!
//! A subscriber of `tracing` is user code too. Events of the drain task and of handles are
//! contained, and so is a panic when the span of a call is left or closed. A panic at an event of a
//! call (queued, dispatched, finished, refused), or when its span is entered, goes to whoever runs
//! the call; the rights of the call are in guards by then.

use std::{
    any::Any,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Runs code that may call user code (a `Drop`, say). Returns `None` if the code panics.
#[inline]
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(panic) => {
            discard(panic);
            None
        }
    }
}

/// Drops a waker. The waker may be another task's, and a panic of its drop is kept from the caller.
#[inline]
pub(crate) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        contain(|| drop(waker));
    }
}

/// Drops the payload of a panic. If the drop panics again, leaks the second payload.
#[cold]
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        forget(again);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any("the payload panics, too");
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_contained() {
        assert_eq!(contain(|| panic_any(Bomb)), None::<()>);
        assert_eq!(contain(|| 1), Some(1));
    }
}
