//! Queue-based load leveling for [Tower](tower): a [`Layer`](tower::Layer) with a single bounded
//! queue in front of a service, and a single background task that feeds the service at a
//! sustainable pace.
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
//! A backend with more work at hand than it can do at once does less, not more. A database with a
//! single writer spends the time on locks. A connection pool queues out of sight, and when the
//! response comes, the caller has gone. This layer keeps the queue where the queue can be bounded,
//! ordered, watched and emptied. Bursts wait a little. Requests that would be late are refused at
//! once, with a reason and a time to retry. Nothing is lost and nothing hangs.
//!
//! Leveling trades latency for fewer failures. Leveling helps while (arrival rate − drain rate) ×
//! length of the burst fits into the queue, and the resulting wait is still worth it. Under lasting
//! overload every queue is full, and immediate, cheap refusals matter most.
//!
//! # How it differs
//!
//! From `load_shed().buffer(n).concurrency_limit(c)`:
//!
//! - The queue and the limit belong to the **layer**, and hold over all routes, connections and
//!   clones. axum calls `Layer::layer` for each route, and for each connection under `axum::serve`;
//!   a queue made inside `layer()` would be a queue per connection.
//! - The bound is exact, and 0 is legal. A refusal depends on the queue alone, never on the
//!   scheduling budget of a task, or on a clone that was polled and forgotten.
//! - A request whose caller goes away is gone at once: the place is free, and the inner never sees
//!   the request. A caller that stays but stops polling blocks nobody.
//! - A panic of the inner reaches its own caller only.
//! - The layer can be observed and controlled at run time: see [`Handle`].
//!
//! # Getting started
//!
//! ```sh
//! cargo add tower-load-leveling                   # any tower stack
//! cargo add tower-load-leveling --features http   # axum, hyper, reqwest
//! cargo add tower-load-leveling --features grpc   # tonic
//! ```
//!
//! 1. Build one [`LoadLevelLayer`] for each backend, and put clones of the layer before every
//!    service that uses the backend. With axum, one `Router::layer` is enough.
//! 2. Say how many calls the backend bears at once: [`concurrency`](Builder::concurrency) if you
//!    know (connections of a pool, writers), and otherwise
//!    [`adaptive_concurrency`](Builder::adaptive_concurrency).
//! 3. Say how long a wait is still worth it: [`max_wait`](Builder::max_wait), or a
//!    [deadline](Class::deadline) of each request. Without either, an outage of the backend leaves
//!    a queue of requests whose callers have gone.
//! 4. Turn refusals into responses: [below](#turning-errors-into-responses).
//! 5. Keep the [`Handle`]. [`Stats::verdict`] says in a word how the leveler is, and
//!    [`Handle::drain`] shuts down.
//!
//! # Which mode is mine
//!
//! | you have | write |
//! | --- | --- |
//! | a server, which has to answer, and at once | [`Overflow::Reject`], the default |
//! | a client or a worker, which can slow down | [`Overflow::Wait`]: `poll_ready` waits |
//! | data of which the newest matters most (positions, prices) | [`Overflow::EvictOldest`] |
//! | requests that build on each other, or must all be served | [`Order::Fifo`], the default |
//! | requests worth nothing when late | [`Order::AdaptiveLifo`], and `max_wait` or deadlines |
//! | several tenants | [`Class::flow`], from a verified claim |
//! | payments and thumbnails | [`Class::priority`] |
//! | a health check that tells a busy server from a dead one | [`Class::bypass`] |
//! | exports beside small requests | [`Class::cost`], or a leveler of their own |
//! | work in a thread or process, which a drop does not stop | [`Abandon::Finish`] |
//! | work that nobody waits for | [`Abandon::Finish`]; call and drop |
//! | a call of some 100 ns, for which a task is too much | [`Execution::Caller`] |
//! | a backend that polices by rate | [`rate`](Builder::rate), beside the limit |
//! | one backend behind many processes | [`limit::LatencyTarget`] in each |
//! | a bulk call | an inner that gathers: [docs/tuning.md][tuning] |
//!
//! [`Handle::room`] and [`Handle::changed`] tell a worker how much to pull.
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
//! - The queue is **full**: as [`Overflow`] says, the call is refused at once with
//!   [`Reason::Full`](error::Reason::Full), waits in `poll_ready`, or evicts the oldest request.
//!   A request of a higher [`Priority`], or of a shorter [flow](Class::flow), evicts a request that
//!   ranks lower.
//! - One client **floods**: only its own requests are delayed, if a [flow](Class::flow) tells
//!   clients apart.
//! - The inner is **slow**: requests wait in the order of [`Order`], up to
//!   [`max_wait`](Builder::max_wait) and their own [deadline](Class::deadline). Late requests are
//!   answered at that time and never started.
//! - The inner's **capacity is unknown** or changes:
//!   [`adaptive_concurrency`](Builder::adaptive_concurrency) finds the limit and follows.
//! - The inner is **not ready**: its requests wait without a slot, and requests of other inner
//!   services under the same layer go on.
//! - The inner **fails**: the error passes through unwrapped. If `poll_ready` fails, later calls
//!   get a [`ServiceError`](error::ServiceError).
//! - The inner **panics**: the panic goes on in the caller, as without the layer, and nowhere else.
//! - The inner **calls its own leveler**: a free slot serves the nested call. If the nested call
//!   would have to wait with no bound, it is refused with [`Nested`](error::Reason::Nested), at
//!   once or, if others were faster, at its turn: all outer calls may be waiting in the same way.
//!   Nesting is not seen in tasks spawned by the inner, or over a network. Two levelers that call
//!   each other, and are both called from outside, can wait for each other's slots. For all of
//!   these set [`max_wait`](Builder::max_wait).
//! - A caller has a **scoped `tracing` dispatcher**: the inner's events go to the dispatcher with
//!   [`carry_dispatcher`](Builder::carry_dispatcher), and otherwise, under [`Execution::Spawn`], to
//!   the global one. The caller's span is entered either way.
//! - A caller **drops** the future: a waiting request is removed, a running call is dropped. With
//!   [`Abandon::Finish`] both finish instead. A server drops the future when the client leaves.
//!   Over HTTP/1, hyper notices only after reading the whole request body: up to its budget,
//!   `http::ReadAheadLayer` reads the body of a waiting request.
//! - The **settings** change: [`Handle`] has a method for each setting of a running leveler, and
//!   [`Handle::apply`] takes all from a file. See [`settings`].
//! - You **shut down**: [`Handle::close`] refuses new requests and lets admitted ones finish;
//!   [`Handle::drain`] waits for them, up to a deadline.
//! - The **runtime** of the drain task ends: waiting requests are answered with
//!   [`Closed`](error::Reason::Closed). The next call starts a new drain task on its own runtime.
//! - The runtime of the drain task lives, but is **not driven** any more, as after
//!   [`block_on`](tokio::runtime::Runtime::block_on): the drain task moves to the runtime of
//!   another caller. A call on a runtime that is not driven keeps its slot until the caller gives
//!   up.
//! - **Everything is dropped**: admitted requests finish first.
//!
//! The order, the wait limit, the capacity, and priorities and flows under overload:
//! [docs/tuning.md][tuning]. The limit, and the algorithms to find it: [`limit`] and
//! [docs/limits.md][limits].
//!
//! # Where to put it
//!
//! In a [`ServiceBuilder`](tower::ServiceBuilder) the first layer is the outermost.
//!
//! - A **timeout** outside bounds wait and service time together, and frees the place when the
//!   timeout fires. A timeout inside bounds the service time alone, and
//!   [`max_wait`](Builder::max_wait) bounds the wait:
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
//! - A **retry** goes outside. A retry outside holds no slot while backing off, and can obey
//!   [`retry_after`](error::Rejected::retry_after), as `retry::RetryPolicy` of the feature `retry`
//!   does. A rejected request was never started, so a retry is safe. Inside, a retry keeps its slot
//!   for all attempts.
//! - **Tracing** goes outside, to see the wait. Spans are carried through the queue either way.
//! - **Cheap checks** (authentication, size limits) go outside, to turn requests away before they
//!   take a place. Expensive checks go inside.
//! - **Health checks** go beside the layer, on a route without the layer; or through the layer, as
//!   [`Class::bypass`].
//! - Put the layer **before bodies are read**: a request waits as it came, and the body is not
//!   touched. Bodies of waiting requests fill the flow-control window of an HTTP/2 connection: set
//!   the windows, or read ahead, as [docs/web.md][web] says.
//!
//! With [`Overflow::Wait`] the layers outside must pass `poll_ready` through, for the wait to
//! happen in `poll_ready`. A `timeout` layer outside starts at `call`, and does not bound the wait
//! for a place; [`max_wait`](Builder::max_wait) does.
//!
//! # Turning errors into responses
//!
//! With the feature `http`, put an `http::RejectionLayer` outside; with `grpc`, a
//! `grpc::RejectionLayer`. The features also add deadlines from headers, and slots held to the end
//! of a body: [docs/web.md][web].
//!
//! In a handler, or in a framework with a response type of its own, `http::Refusal::new(&rejected)`
//! makes the response. Without the features, use `HandleErrorLayer` in axum. Elsewhere put a
//! `service_fn` around the stack, and handle the error of each call:
//! `service.clone().oneshot(request).await.unwrap_or_else(refuse)`.
//!
//! If a stack is in the wrong order or lacks a layer, the compiler may report an error in the words
//! of another crate. The errors, and the remedies:
//!
//! - E0277, `the trait bound Infallible: From<Box<dyn Error …>> is not satisfied`, and E0271,
//!   `expected Infallible, found Box<dyn Error + Send + Sync>`: the stack can fail. Write
//!   `.layer(RejectionLayer::new())` before `.layer(leveler)`, in the same `ServiceBuilder`.
//! - E0271, `expected … to be a future that resolves to Result<Response<_>, _>`: the service inside
//!   of the `RejectionLayer` does not return an `http::Response`. Write `.map_response(…)` right
//!   after the `RejectionLayer`.
//! - E0308, `if and else have incompatible types`: the two builders have different classifiers.
//!   Write `.boxed()` after the classifier, in both branches: see [`classify`].
//! - E0599, `the method oneshot exists …, but its trait bounds were not satisfied`: the compiler
//!   does not name the bound. Write `ServiceExt::<Req>::oneshot(service, request)` with the type of
//!   your request, and the compiler names it.
//!
//! # What is not promised
//!
//! The defaults with a number, the text of events and errors, the types to which [`Error::source`]
//! of this crate's errors can be downcast, the `Debug` output, and the `Display` of [`Stats`] may
//! change in any release. A limit holds per layer value and per process. A call ends when its
//! future resolves to a response. A body that streams afterwards is not counted, except with
//! `Builder::hold_until` of the feature `http`.
//!
//! [`Error::source`]: std::error::Error::source
//! [tuning]: https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/tuning.md
//! [limits]: https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/limits.md
//! [web]: https://github.com/tower-load-leveling/tower-load-leveling/blob/main/docs/web.md

#![cfg_attr(docsrs, feature(doc_cfg))]
// Code pasted from the docs compiles without a warning. Unused values are left to the reader.
#![doc(test(attr(deny(warnings), allow(unused))))]

mod builder;
mod by_result;
mod class;
pub mod classify;
mod config;
mod enqueue;
pub mod error;
#[cfg(any(feature = "metrics", feature = "prometheus"))]
mod export;
mod flow_key;
mod full_streak;
pub mod future;
#[cfg(feature = "grpc")]
pub mod grpc;
mod handle;
#[cfg(feature = "http")]
pub mod http;
mod layer;
mod leveler;
pub mod limit;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "model")]
pub mod model;
mod next_place;
mod options;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod queue;
pub mod respond;
#[cfg(feature = "retry")]
pub mod retry;
mod retry_after;
mod rng;
mod service;
pub mod settings;
pub mod stats;
mod sync;
mod traits;
mod unset;
mod words;

pub use self::{
    builder::Builder,
    by_result::ByResult,
    class::{Class, Priority},
    classify::{ClassifyRequest, ClassifyResponse, Unclassified},
    handle::{DrainReport, Handle},
    layer::LoadLevelLayer,
    options::{Abandon, Execution, Order, Overflow},
    service::LoadLevel,
    stats::Stats,
};

#[cfg(all(doctest, feature = "http", feature = "prometheus"))]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../docs/tuning.md")]
mod tuning {}

#[cfg(doctest)]
#[doc = include_str!("../docs/limits.md")]
mod limits {}

#[cfg(all(doctest, feature = "grpc", feature = "retry"))]
#[doc = include_str!("../docs/web.md")]
mod web {}

#[cfg(all(doctest, feature = "prometheus"))]
#[doc = include_str!("../docs/watching.md")]
mod watching {}
