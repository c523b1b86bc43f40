//! Queue-based load leveling for [Tower](tower): a [`Layer`](tower::Layer) that puts one bounded queue in
//! front of a service, and one background task that feeds the service no faster than it can sustain.
//!
//! ```text
//!            admitted?            in order, in time           as many as the limit lets
//!  callers ──────────▶ [ queue ] ──────────────────▶ [ drain ] ─────────────▶ inner service
//!     ▲        │ no        │ late, evicted               task                      │
//!     │        ▼           ▼                                                       │
//!     └──── Rejected { reason, retry_after } ◀─────────────── response or error ───┘
//! ```
//!
//! # Why
//!
//! A backend that is sent more than it can do at once does less, not more: a database with one writer
//! spends its time on locks, a pool of connections queues where nobody can see it, and by the time an
//! answer comes its caller has gone. This layer keeps that queue where it can be bounded, ordered,
//! watched and emptied. Bursts wait a little; what cannot be served in time is refused at once, with a
//! reason and a time to retry; nothing is lost and nothing hangs.
//!
//! Leveling trades latency for fewer failures. It helps as long as (arrival rate − drain rate) × length of
//! the burst fits into the queue and the wait that makes is still worth it. Under lasting overload every
//! queue is full, and what counts is that refusal is immediate and cheap.
//!
//! # How it differs
//!
//! From `load_shed().buffer(n).concurrency_limit(c)`:
//!
//! - The queue and the limit belong to the **layer**, so they hold over all routes, connections and clones.
//!   axum calls `Layer::layer` for each route, and for each connection under `axum::serve`; a queue that
//!   is made inside `layer()` is a queue per connection.
//! - The bound is exact, and 0 is legal. A refusal depends on the queue alone, never on the scheduling
//!   budget of a task, or on a clone that was polled and forgotten.
//! - A caller that goes away leaves at once: its place is free and the inner never sees its request. One
//!   that stays but stops polling holds up nobody.
//! - A panic of the inner concerns its own caller only.
//! - It can be watched and steered while it runs: see [`Handle`].
//!
//! # Example
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_load_leveling::{LoadLevelLayer, error::Rejected};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let layer = LoadLevelLayer::builder()
//!     .name("orders")
//!     .capacity(1024)
//!     .concurrency(64)
//!     .max_wait(Duration::from_millis(500))
//!     .build()?;
//! let handle = layer.handle();
//!
//! let mut service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(|order: u64| async move { Ok::<_, Infallible>(order + 1) }));
//!
//! match service.ready().await?.call(41).await {
//!     Ok(answer) => assert_eq!(answer, 42),
//!     Err(error) => match error.downcast_ref::<Rejected>() {
//!         Some(rejected) => println!("retry after {:?}", rejected.retry_after()),
//!         None => return Err(error),
//!     },
//! }
//! assert_eq!(handle.stats().succeeded, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What happens when …
//!
//! | | |
//! | --- | --- |
//! | it is **full** | the call is refused at once with [`Reason::Full`](error::Reason::Full), or waits in `poll_ready`, or takes the place of the oldest, as [`Overflow`] says; whoever has a higher [`Priority`], or a shorter [flow](Class::flow), takes the place of one who gives way |
//! | one client **floods** | it waits for itself, if it is told apart by a [flow](Class::flow) |
//! | the inner is **slow** | requests wait in the order of [`Order`], up to [`max_wait`](Builder::max_wait) and their own [deadline](Class::deadline); those that are late are answered then, and never started |
//! | nobody knows what the inner can **sustain**, or it changes | the limit is found, and follows: [`adaptive_concurrency`](Builder::adaptive_concurrency) |
//! | the inner is **not ready** | its requests wait, without a slot; those of other inner services under the same layer go on |
//! | the inner **fails** | its error passes through unwrapped; when its `poll_ready` fails, later calls get a [`ServiceError`](error::ServiceError) |
//! | the inner **panics** | the panic goes on in the caller, as without the layer, and nowhere else |
//! | a caller **drops** its future | a waiting request is gone, a running one is dropped; both are finished instead with [`Abandon::Finish`] |
//! | you **shut down** | [`Handle::close`] refuses newcomers and lets the others finish; [`Handle::drain`] waits for them, up to a deadline |
//! | the **runtime** of the drain task ends | those who wait are answered [`Closed`](error::Reason::Closed); the next call starts a new drain task on its own runtime |
//! | **everything is dropped** | what was admitted is finished first |
//!
//! Which order, which wait limit, how much capacity, and what priorities and flows do under overload:
//! [docs/tuning.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/tuning.md). Which limit, and
//! how one is found: [`limit`], and
//! [docs/limits.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/limits.md).
//!
//! # Where to put it
//!
//! In a [`ServiceBuilder`](tower::ServiceBuilder) the first layer is the outermost.
//!
//! - A **timeout** outside bounds waiting and running together, and frees the place when it fires. Inside,
//!   it bounds running alone, and waiting is bounded by [`max_wait`](Builder::max_wait):
//!
//!   ```
//!   # use std::time::Duration;
//!   # use tower::{ServiceBuilder, service_fn};
//!   # use tower_load_leveling::LoadLevelLayer;
//!   # let inner = || service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) });
//!   let both = ServiceBuilder::new()
//!       .timeout(Duration::from_secs(2))
//!       .layer(LoadLevelLayer::new(1024, 64))
//!       .service(inner());
//!   let running_only = ServiceBuilder::new()
//!       .layer(LoadLevelLayer::new(1024, 64))
//!       .timeout(Duration::from_secs(2))
//!       .service(inner());
//!   # drop((both, running_only));
//!   ```
//! - A **retry** goes outside, so that it holds no slot while it backs off, and obeys
//!   [`retry_after`](error::Rejected::retry_after). A rejected request was never started, so it is safe to
//!   retry. Inside, a retry keeps its slot for all its attempts.
//! - **Tracing** goes outside, to see the wait; spans are carried through the queue either way.
//! - **Checks that are cheap and turn requests away** (authentication, size limits) go outside, so that what
//!   they refuse takes no place. Expensive ones go inside.
//! - **Health checks** go beside it, on a route that the layer does not wrap; or through it, as
//!   [`Class::bypass`].
//! - Put it **before bodies are read**: a request waits as it came, and its body is not touched.
//!
//! With [`Overflow::Wait`] the layers outside must pass `poll_ready` through, for the wait to happen there; and
//! a `timeout` layer outside starts at `call`, so bound the wait for a place by a timeout around
//! `service.ready()`, or around `oneshot`.
//!
//! # Turning errors into responses
//!
//! With the feature `http` an `http::RejectionLayer` outside does it, and with `grpc` a `grpc::RejectionLayer`; there
//! are also deadlines from headers, and slots that are held to the end of a body:
//! [docs/web.md](https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/web.md).
//! Without them, in axum use `HandleErrorLayer`; without it the compiler says that `Infallible: From<Box<dyn Error …>>` is not
//! satisfied. Elsewhere a `service_fn` around the stack does it, with the error of each
//! call in hand: `service.clone().oneshot(request).await.unwrap_or_else(refuse)`, as in `examples/hyper.rs`.
//!
//! # What is not promised
//!
//! The defaults that have a number, the text of events and errors, what [`Error::source`] of our errors can
//! be downcast to, the `Debug` output, and how [`Stats`] print themselves may change in any release. A limit
//! holds per layer value and per process. A response ends its call when its future resolves: a body that
//! streams after that is not counted, but with `Builder::hold_until` of the feature `http`.
//!
//! [`Error::source`]: std::error::Error::source

mod bounds;
mod builder;
mod by_result;
mod class;
mod config;
pub mod error;
pub mod future;
#[cfg(feature = "grpc")]
pub mod grpc;
mod handle;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod leveler;
pub mod limit;
mod options;
mod queue;
mod respond;
mod retry_after;
mod rng;
mod service;
#[doc(hidden)]
pub mod simulation;
mod stats;

pub use self::{
    builder::Builder,
    by_result::ByResult,
    class::{Class, ClassifyRequest, ClassifyResponse, Or, Prepare, Priority, Unclassified},
    handle::{DrainReport, Handle},
    layer::LoadLevelLayer,
    options::{Abandon, Execution, Order, Overflow},
    respond::{AsIs, HandOn},
    service::LoadLevel,
    stats::{Histogram, PriorityStats, Reasons, Stats},
};

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../docs/tuning.md")]
mod tuning {}

#[cfg(doctest)]
#[doc = include_str!("../docs/limits.md")]
mod limits {}

#[cfg(all(doctest, feature = "grpc"))]
#[doc = include_str!("../docs/web.md")]
mod web {}
