//! A durable, shared queue on NATS JetStream for
//! [`tower-load-leveling`](tower_load_leveling).
//!
//! Producers store requests in a durable stream. Workers take as many as the leveler can start,
//! call any [`tower::Service`], and acknowledge done work.
//!
//! The broker decides the meaning of "stored". By default `nats-server` writes to the file at once
//! and syncs the file every two minutes: a stored message survives a kill of the broker, and may
//! not survive a power cut. For power cuts, use [`replicas`](queue::Builder::replicas) on servers
//! in different racks, or the broker's `sync_interval: always`.
//!
//! ```text
//!  Producer ─ encode ─ id ─▶ stream ─▶ consumer ─ as many as were asked for ─▶ Worker
//!     ▲                        │                                                  │
//!     └── Receipt, Rejected, ──┘         credit = limit + prefetch − in hand − asked for
//!         Away, Unknown                  ack, nak, requeue, bury ◀─ leveler ─▶ inner service
//! ```
//!
//! # Example
//!
//! ```no_run
//! # async fn example(shutdown: impl Future<Output = ()>) -> Result<(), tower::BoxError> {
//! use bytes::Bytes;
//! use tower_load_leveling::LoadLevelLayer;
//! use tower_load_leveling_jetstream::{Queue, Raw};
//!
//! let client = async_nats::connect("localhost:4222").await?;
//! let queue = Queue::builder("orders").fleet_limit(64).build(client).await?;
//! let receipt = queue.producer(Raw::new()).store(Bytes::from("one order")).await?;
//! println!("stored at {}", receipt.sequence());
//!
//! let handler = tower::service_fn(|order: Bytes| async move {
//!     println!("{} bytes", order.len());
//!     Ok::<_, std::io::Error>(())
//! });
//! let leveler = LoadLevelLayer::builder().capacity(64).adaptive_concurrency().build()?;
//! let worker = queue.worker(Raw::new()).leveler(leveler).max_attempts(5).service(handler);
//! let report = worker.run_until(shutdown).await?;
//! println!("{}", report.stats);
//! # Ok(())
//! # }
//! ```
//!
//! Callers in need of the answer take an [`Asker`] in place of a [`Producer`].
//!
//! # What happens when …
//!
//! - A **worker dies**: the messages in hand go to other workers after
//!   [`ack_wait`](queue::Builder::ack_wait), under the same [id](Delivery::id).
//! - The **broker dies**: producers get [`Error::Away`] or [`Error::Unknown`], workers go on
//!   afterwards. Messages with lost acks are done again. Messages forgotten by the broker are
//!   [stored again](WorkerStats::rescued) by a worker.
//! - The stream is **full**: producers get a
//!   [`Rejected`](tower_load_leveling::error::Rejected) with a time to retry.
//! - A call **fails**: the message comes again, later each time, and is buried after
//!   [`max_attempts`](worker::Builder::max_attempts).
//! - A message **kills workers**: a worker buries the message without a call above
//!   [`max_deliveries`](worker::Builder::max_deliveries).
//! - An **asker leaves**, or the deadline passes: a worker does not begin the call, unless told to
//!   by [`late`](worker::Builder::late). A running call goes on. See [`Asker`].
//! - The leveler is **overloaded**: messages stay in hand or are given back. Overload buries
//!   nothing.
//!
//! Inner services have to bear the same request twice, and two at a time: a worker cut off from the
//! broker finishes a call while a second worker begins the same call. The [id](Delivery::id) tells.
//!
//! # Order
//!
//! None by default: workers make calls side by side. A queue
//! [`in_order`](queue::Builder::in_order) makes the calls of a key in turn, in the order of the
//! store. The producer has a [`key`](Producer::key):
//!
//! ```no_run
//! # async fn example(client: async_nats::Client) -> Result<(), tower::BoxError> {
//! # use bytes::Bytes;
//! # use tower_load_leveling_jetstream::{Queue, Raw};
//! let queue = Queue::builder("payments").in_order(32).build(client).await?;
//! let producer = queue.producer(Raw::new()).key(|payment: &Bytes| {
//!     // The account comes first.
//!     String::from_utf8_lossy(payment).split(' ').next().unwrap_or_default().to_owned()
//! });
//! producer.store(Bytes::from("account-7 withdraws 10")).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Missing: priorities, `traceparent`.

mod answer;
mod asker;
mod call;
mod codec;
mod control;
mod credit;
mod debris;
mod delivery;
mod error;
mod hand;
mod headers;
mod judge;
mod mismatch;
mod order;
mod partitions;
mod producer;
mod pull;
mod pull_in_order;
pub mod queue;
mod run;
mod settings;
mod settle;
mod stats;
mod work;
pub mod worker;

#[cfg(feature = "json")]
pub use self::codec::Json;
pub use self::{
    answer::{Answers, EncodeAnswer, Late},
    asker::Asker,
    codec::{AsDelivered, Codec, Raw},
    delivery::Delivery,
    error::Error,
    judge::{ByResult, Judge, Verdict},
    mismatch::Mismatch,
    order::{Key, NoKey},
    producer::{Identify, Producer, RandomId, Receipt},
    queue::Queue,
    settle::Confirm,
    stats::{Report, WorkerStats},
    worker::{Worker, WorkerHandle},
};
