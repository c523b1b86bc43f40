use std::time::Duration;

use tower::BoxError;

use crate::Delivery;

/// How a message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The message is done.
    Ack,
    /// The message is given to a worker again, after a delay. Above
    /// [`max_attempts`](crate::worker::Builder::max_attempts), the worker buries the message.
    Retry {
        /// The delay. `None`: the delay doubles with the attempt, see
        /// [`backoff`](crate::worker::Builder::backoff).
        after: Option<Duration>,
    },
    /// The message goes to the dead-letter stream at once.
    Bury,
}

/// Decides how the result of a call settles the message.
///
/// Implemented for closures `Fn(&Delivery, Result<&Response, &BoxError>) -> Verdict`. Not asked
/// about refusals of a leveler: overload is no failure.
pub trait Judge<Response>: Send + Sync + 'static {
    /// Returns the verdict.
    fn judge(&self, delivery: &Delivery, result: Result<&Response, &BoxError>) -> Verdict;
}

impl<Response, F> Judge<Response> for F
where
    F: Fn(&Delivery, Result<&Response, &BoxError>) -> Verdict + Send + Sync + 'static,
{
    fn judge(&self, delivery: &Delivery, result: Result<&Response, &BoxError>) -> Verdict {
        self(delivery, result)
    }
}

/// The default [`Judge`]: a response is done, an error is tried again.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByResult;

impl<Response> Judge<Response> for ByResult {
    fn judge(&self, _delivery: &Delivery, result: Result<&Response, &BoxError>) -> Verdict {
        match result {
            Ok(_) => Verdict::Ack,
            Err(_) => Verdict::Retry { after: None },
        }
    }
}
