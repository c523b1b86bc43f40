//! Manners for gRPC services; with the feature `grpc`. Needs no gRPC library.
//!
//! - [`RejectionLayer`], outside of the leveler, turns its errors into gRPC statuses: `UNAVAILABLE` with the time
//!   after which to try again.
//! - [`TimeoutDeadline`] reads `grpc-timeout`, counted from arrival.
//! - [`ByStatus`] tells the limit which statuses mean overload, also when they come in the trailers of a body
//!   that [keeps its slot](crate::Builder::hold_until).
//!
//! In tonic put the stack around all services by `Server::layer`, or around one by
//! `tonic::service::LayerExt::named_layer`, which keeps its `NamedService`: see `examples/tonic`. **The
//! [`RejectionLayer`] has to be there, before the leveler**: `Server::layer` compiles without it too, and clients see
//! `INTERNAL` with "h2 protocol error" where they were refused. (`named_layer` says at compile time that the stack must
//! not fail.)
//!
//! ```
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_load_leveling::{LoadLevelLayer, grpc, http::Hold};
//!
//! let leveler = LoadLevelLayer::builder()
//!     .concurrency(64)
//!     .request_classifier(grpc::TimeoutDeadline::new().by_default(Duration::from_secs(5)))
//!     .response_classifier(grpc::ByStatus)
//!     .hold_until(Hold::BodyEnd)
//!     // A client that leaves as many streams unread as the limit has slots would stop the service.
//!     .body_idle(Duration::from_secs(10))
//!     .build()?;
//! let stack = ServiceBuilder::new().layer(grpc::RejectionLayer::new()).layer(leveler);
//! # drop(stack);
//! # Ok::<(), tower_load_leveling::error::BuildError>(())
//! ```

mod rejection;
mod status;
mod timeout;

pub use self::{
    rejection::{ErrorStatus, Internal, RejectionLayer},
    status::ByStatus,
    timeout::TimeoutDeadline,
};
