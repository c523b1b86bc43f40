use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    thread,
};

use tower::BoxError;

use crate::error::ServiceError;

/// The mark of a dead inner, set when `poll_ready` has failed, under the inner's lock. Read without
/// the lock.
#[derive(Debug, Default)]
pub(super) struct DeathMark(OnceLock<ServiceError>);

impl DeathMark {
    /// Returns the error for all later requests, if the inner is dead. A load of one atomic.
    #[inline]
    pub(super) fn get(&self) -> Option<&ServiceError> {
        self.0.get()
    }

    /// Marks the inner as dead, with the text of its error. Returns the error itself, or the panic
    /// of its display.
    #[cold]
    pub(super) fn set(&self, error: impl Into<BoxError>) -> thread::Result<BoxError> {
        let described = catch_unwind(AssertUnwindSafe(|| {
            let error = error.into();
            let text = error.to_string();
            (error, text)
        }));
        let (error, text) = match described {
            Ok((error, text)) => (Ok(error), text),
            Err(panic) => (Err(panic), "an error that cannot be displayed".into()),
        };
        // Never set before: a dead inner is not polled again.
        drop(self.0.set(ServiceError::new(text.as_str().into())));
        error
    }
}
