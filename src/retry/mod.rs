//! Retries that obey the time to retry, with the feature `retry`.
//!
//! [`RetryPolicy`] is a policy for [`tower::retry`]. Put the retry **outside** of a leveler, to
//! hold no slot between attempts.
//!
//! - In process, the policy repeats calls that a leveler [`Rejected`](crate::error::Rejected),
//!   after [`retry_after`](crate::error::Rejected::retry_after). Such a call was never started.
//! - `RetryPolicy::http` adds requests refused by a server: by `Retry-After` of a 503 or 429, and
//!   by `grpc-retry-pushback-ms`.
//! - [`RetryPolicy::advice`] takes a closure, for other clients.
//!
//! A [budget](RetryPolicy::budget) shared by all requests bounds retries while every request is
//! refused. Each request has a maximum number of attempts and a maximum delay.
//!
//! ```
//! use std::convert::Infallible;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_load_leveling::{LoadLevelLayer, retry::RetryPolicy};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let service = ServiceBuilder::new()
//!     .retry(RetryPolicy::new().max_attempts(5))
//!     .layer(LoadLevelLayer::new(8, 4))
//!     .service(service_fn(async |order: u64| Ok::<_, Infallible>(order + 1)));
//! assert_eq!(service.oneshot(41).await?, 42);
//! # Ok(())
//! # }
//! ```

mod advice;
mod budget;
mod clone;
mod delay;
#[cfg(feature = "http")]
mod headers;
#[cfg(feature = "http")]
mod http_advice;
#[cfg(feature = "http")]
mod http_date;
mod policy;

pub use self::{
    advice::{Advice, RejectionAdvice, RetryAdvice},
    clone::{ByClone, CloneRequest},
    delay::RetryDelay,
    policy::RetryPolicy,
};
#[cfg(feature = "http")]
pub use self::{clone::clone_without_body, http_advice::HttpAdvice};
