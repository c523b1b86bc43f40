use std::any::Any;

use tower::BoxError;

use crate::leveler::admission::unserved::Unserved;

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The reason not to call an inner.
pub(crate) enum NotCalled {
    /// The inner is not ready.
    Unready,
    /// The inner is dead, or its `poll_ready` has failed or panicked.
    Failed(Failure),
}

/// An end of a call other than a response or an error of the future.
pub(crate) enum Failure {
    /// An error of the inner's `poll_ready`, or of this crate. The caller gets the error unchanged.
    Error(BoxError),
    Panicked(Panic),
}

impl Failure {
    pub(crate) fn unserved(&self) -> Unserved {
        match self {
            Self::Error(_) => Unserved::Failed,
            Self::Panicked(_) => Unserved::Panicked,
        }
    }
}
