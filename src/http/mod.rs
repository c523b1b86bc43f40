//! Support for HTTP services, with the feature `http`.
//!
//! - [`RejectionLayer`], outside of the leveler, turns rejections into responses: 503 with
//!   `Retry-After`. The stack can then no longer fail, and goes into `Router::layer` and
//!   `axum::serve` unchanged.
//! - [`HeaderDeadline`] and [`ExtensionDeadline`] read a request's deadline.
//! - [`ByStatus`] tells the limit which responses mean overload.
//! - [`ReadAheadLayer`], outside of the leveler, reads the bodies of waiting requests ahead. If
//!   unread, they can starve the running requests of the same HTTP/2 connection.
//! - [`Builder::hold_until`](crate::Builder::hold_until) keeps the slot of a call until the
//!   response body has been read to the end.
//! - [`Builder::record_wait`](crate::Builder::record_wait) tells the inner service how long a
//!   request has [`Waited`], and [`Builder::server_timing`](crate::Builder::server_timing) tells
//!   the client.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use http::HeaderName;
//! use tower::ServiceBuilder;
//! use tower_load_leveling::{
//!     LoadLevelLayer,
//!     http::{ByStatus, HeaderDeadline, Hold, ProblemJson, RejectionLayer},
//! };
//!
//! let leveler = LoadLevelLayer::builder()
//!     .capacity(1024)
//!     .concurrency(64)
//!     .request_classifier(
//!         HeaderDeadline::millis(HeaderName::from_static("x-timeout-ms"))
//!             .by_default(Duration::from_secs(5)),
//!     )
//!     .response_classifier(ByStatus::new())
//!     .hold_until(Hold::BodyEnd)
//!     // A client that reads nothing would keep its slot.
//!     .body_idle(Duration::from_secs(10))
//!     .body_rate(64 << 10)
//!     .max_wait(Duration::from_secs(2))
//!     .build()?;
//!
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(
//!         ServiceBuilder::new().layer(RejectionLayer::new().body(ProblemJson)).layer(leveler),
//!     );
//! # let _ = app;
//! # Ok::<(), tower_load_leveling::error::BuildError>(())
//! ```

mod answered;
mod body;
pub(crate) mod body_limits;
mod builder;
mod deadline;
pub(crate) mod hold;
mod or_empty;
mod read_ahead;
mod reader;
mod refusal;
mod refusal_body;
mod rejection;
mod rejection_body;
mod status;
mod wait;

#[cfg(feature = "grpc")]
pub(crate) use self::{
    answered::Sealed,
    deadline::{TimeLimits, non_zero},
};
pub use self::{
    answered::{Answer, Answered, AnsweredFuture},
    body::HeldBody,
    body_limits::{BodyIdle, BodyTooLong, BodyTooSlow},
    deadline::{ExtensionDeadline, HeaderDeadline},
    hold::{Hold, HoldBody},
    or_empty::OrEmpty,
    read_ahead::{ReadAhead, ReadAheadBody, ReadAheadFuture, ReadAheadHandle, ReadAheadLayer},
    refusal::Refusal,
    refusal_body::{Empty, PlainText, ProblemJson, RefusalBody},
    rejection::{ErrorResponse, InternalServerError, RejectionLayer},
    rejection_body::RejectionBody,
    status::ByStatus,
    wait::{RecordWait, ServerTiming, Waited},
};
