//! What is known of a request before it waits, and of a response after it came.

use std::fmt;

use tokio::time::Instant;

use crate::limit::Outcome;

/// What is known of one request: for now, until when it is worth starting.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_load_leveling::Class;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let class = Class::new().deadline(Instant::now() + Duration::from_millis(250));
/// # drop(class);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Class {
    pub(crate) deadline: Option<Instant>,
}

impl Class {
    /// Returns a class that says nothing special: no deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the instant after which the request is of no use to its caller any more.
    ///
    /// It is rejected with [`Reason::Deadline`](crate::error::Reason::Deadline) if it has not been
    /// dispatched by then; a deadline that is exactly now has passed. The layer does not cut a call that
    /// is already running. Default is no deadline.
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }
}

/// Tells what is known of a request.
///
/// Implemented for closures `Fn(&Req) -> Class`. It runs in `call`, on the caller's thread, before the
/// request is admitted; a panic in it is the caller's own and changes nothing for others.
pub trait ClassifyRequest<Req> {
    /// Returns the class of `request`.
    fn classify(&self, request: &Req) -> Class;
}

impl<F, Req> ClassifyRequest<Req> for F
where
    F: Fn(&Req) -> Class,
{
    fn classify(&self, request: &Req) -> Class {
        self(request)
    }
}

/// The default [`ClassifyRequest`]: every request is like every other.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Unclassified;

impl<Req> ClassifyRequest<Req> for Unclassified {
    fn classify(&self, _request: &Req) -> Class {
        Class::new()
    }
}

/// Tells what a finished call says about the health of the inner service.
///
/// Implemented for closures `Fn(Result<&T, &E>) -> Outcome`. It runs where the call was running; a panic
/// in it reaches the caller of that call and nobody else.
pub trait ClassifyResponse<T, E> {
    /// Returns the outcome of a call that ended with `result`.
    fn classify(&self, result: Result<&T, &E>) -> Outcome;
}

impl<F, T, E> ClassifyResponse<T, E> for F
where
    F: Fn(Result<&T, &E>) -> Outcome,
{
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        self(result)
    }
}

/// The default [`ClassifyResponse`]: `Ok` is a [`Success`](Outcome::Success), `Err` is
/// [ignored](Outcome::Ignore), since most errors (not found, not allowed) say nothing about load.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ByResult;

impl<T, E> ClassifyResponse<T, E> for ByResult {
    fn classify(&self, result: Result<&T, &E>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Ignore,
        }
    }
}

/// Prints a classifier as the word `classifier`: closures have no `Debug`.
pub(crate) struct Opaque;

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("classifier")
    }
}
