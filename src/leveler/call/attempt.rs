use std::{any::Any, time::Duration};

use tower::BoxError;

use crate::{classify::Prepare, leveler::admission::unserved::Unserved};

/// The payload of a panic.
pub(crate) type Panic = Box<dyn Any + Send>;

/// A request for an inner. `prepare` is applied just before the call, with the time `waited`.
pub(crate) struct Prepared<Req> {
    pub(crate) request: Req,
    pub(crate) prepare: Option<Prepare<Req>>,
    pub(crate) waited: Duration,
}

/// The result of an attempt to call an inner. The request comes back if the inner was not called.
pub(crate) enum Attempt<Req, F> {
    Called(F),
    Unready(Req),
    NoSlot(Req),
    Failed(Failure, Option<Req>),
}

impl<Req, F> Attempt<Req, F> {
    pub(crate) fn called(result: Result<F, Panic>) -> Self {
        match result {
            Ok(future) => Self::Called(future),
            Err(panic) => Self::Failed(Failure::Panicked(panic), None),
        }
    }
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
