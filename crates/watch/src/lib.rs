//! A live page for [`tower_load_leveling`]: is it well, how far off, and why.
//!
//! ```
//! use axum::Router;
//! use tower_load_leveling::LoadLevelLayer;
//! use tower_load_leveling_watch::Dashboard;
//!
//! # fn app(orders: LoadLevelLayer, mail: LoadLevelLayer) -> Router {
//! let page = Dashboard::new().watch(orders.handle()).watch(mail.handle());
//! Router::new().nest_service("/leveler", page)
//! # }
//! ```
//!
//! **Mount it on a port that only you reach, or behind your authentication.** The page says how
//! loaded you are. It is read-only, and shows no name of a tenant, a route or an address.
//!
//! [`Dashboard`] is a service for requests of the crate [`http`] with any body. Mount the service
//! outside of the layer, at any path, in axum, in hyper or in any other stack of tower. `GET` and
//! `HEAD` are answered by the last segment of the path:
//!
//! | path | what |
//! | --- | --- |
//! | `…/events` | a stream of server-sent events, with a sample a second |
//! | `…/stats.json` | each leveler's state, its last ten seconds, and its newest sample |
//! | `…/history.json` | the same with the samples of the last five minutes |
//! | `…/metrics` | the metrics for Prometheus, by [`tower_load_leveling::prometheus`] |
//! | anything else | the page |
//!
//! The page is one file of less than 40 kB, asks nothing of any other host, and works offline.
//! Every response forbids storing and framing, and allows scripts by hash alone.
//!
//! # What it costs
//!
//! Nothing on the path of a call. A task takes a snapshot of each leveler once a second, and keeps
//! five minutes: at most 200 kB for each leveler. There are at most 16 streams at a time; the page
//! of one more polls `stats.json`.
//!
//! # Shutdown
//!
//! An open page holds up no graceful shutdown. Its stream ends within a fraction of a second once
//! all levelers are closed, or once [`Dashboard::close`] was called; else after ten seconds, and
//! the page comes back by itself.
//!
//! # The documents
//!
//! `stats.json`, `history.json` and the data of events have one shape. `v` is 1; later releases may
//! add members. Times are in milliseconds where the name says `_ms`, and counts are of the period
//! `seconds`. Of `[p50, p99]` pairs each is rounded up by at most 6.25 %.
//!
//! ```text
//! v, run, newest        version; which process; number of the newest sample
//! bucket_ends_ms        the ends of the buckets of `wait`, `removed_wait` and `service`
//! priorities            all priorities, the highest first
//! reasons[]             reason, label, helps: for which requests are turned away
//! levelers[]
//!   name, state, sentence, adaptive
//!   limit_view          phase, target_ms and rate of the algorithm; null while the limit is fixed
//!   flows[]             id, name, asked, rejected: who asked most in the last ten seconds
//!   settings            as in a file
//!   recent              the last ten seconds, which the state rests on
//!     seconds, asked, succeeded, failed, cancelled
//!     rejected          count by reason
//!     priorities        asked, turned_away, wait_ms by priority
//!     wait_ms, removed_wait_ms, service_ms     [p50, p99]
//!   samples[]
//!     id, at            number; end in milliseconds since 1970
//!     seconds, asked, succeeded, failed, cancelled, rejected
//!     queued, in_flight, slots_taken, limit, capacity, oldest_wait_ms, max_wait_ms, paused, closed
//!     wait, removed_wait, service              p50_ms, p99_ms, buckets: [number, count]
//!     priorities        [asked, turned away, queued] by priority
//! ```

mod advice;
mod body;
mod dashboard;
mod document;
mod events;
mod history;
mod leveler;
mod names;
mod page;
mod respond;
mod sample;
mod sampler;
mod sampling;
mod scale;
mod shared;
mod timer;
mod times;
mod viewers;

pub use self::{body::Body, dashboard::Dashboard};
