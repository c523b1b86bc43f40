//! Support for gRPC services, with the feature `grpc`. Needs no gRPC library.
//!
//! - [`RejectionLayer`], outside of the leveler, turns rejections into gRPC statuses:
//!   `UNAVAILABLE`, with the time after which to retry.
//! - [`TimeoutDeadline`] reads `grpc-timeout`, counted from arrival.
//! - [`ByStatus`] tells the limit which statuses mean overload, including statuses in the trailers
//!   of a body that [keeps a slot](crate::Builder::hold_until).
//!
//! In tonic, put the stack around all services with `Server::layer`, or around a single service
//! with `tonic::service::LayerExt::named_layer`, which preserves `NamedService`: see
//! `examples/tonic`. **The [`RejectionLayer`] must come first, before the leveler.**
//! `Server::layer` also compiles without a `RejectionLayer`, and clients then see `INTERNAL` with
//! "h2 protocol error" instead of a refusal. (`named_layer` reports at compile time that the stack
//! must not fail.)
//!
//! **Streams without an end** (a chat, a subscription, `Watch` of `grpc.health.v1.Health`) keep
//! their slots for good under [`Hold::BodyEnd`](crate::http::Hold::BodyEnd):
//! [`Class::hold`](crate::Class::hold) lets such calls give the slot back with the response.
//!
//! **Set the windows of HTTP/2**: a connection window of at least streams × stream window. With the
//! defaults, messages of waiting calls fill the window of their connection, and running calls get
//! no more messages. An [`http::ReadAheadLayer`](crate::http::ReadAheadLayer) outside helps calls
//! with messages within its budget.
//!
//! ```
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_load_leveling::{LoadLevelLayer, grpc, http::Hold};
//!
//! let leveler = LoadLevelLayer::builder()
//!     .concurrency(64)
//!     .request_classifier(grpc::TimeoutDeadline::new().by_default(Duration::from_secs(5)))
//!     .response_classifier(grpc::ByStatus::new())
//!     .hold_until(Hold::BodyEnd)
//!     // Otherwise a client with as many unread streams as the limit has slots stops the service.
//!     .body_idle(Duration::from_secs(10))
//!     .max_wait(Duration::from_secs(2))
//!     .build()?;
//! // const STREAMS: u32 = 128;
//! // const STREAM_WINDOW: u32 = 64 << 10;
//! // tonic::transport::Server::builder()
//! //     .max_concurrent_streams(STREAMS)
//! //     .initial_stream_window_size(STREAM_WINDOW)
//! //     .initial_connection_window_size(STREAMS * STREAM_WINDOW)
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
