//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "no test file uses all of it")]

#[path = "../../benches/support/broker.rs"]
mod broker;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::{consumer::PullConsumer, stream::State};
use bytes::Bytes;
use futures::StreamExt;
use tower_load_leveling_jetstream::{Queue, Raw};

pub use self::broker::Broker;

/// Longer than anything takes on a loaded machine. Only a test that fails waits for so long.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_async(what, || std::future::ready(holds())).await;
}

/// Waits until a condition holds that the broker has to be asked about.
pub async fn until_async<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(LONG, waiting).await.is_err() {
        panic!("{what}: not within {LONG:?}");
    }
}

/// How often each request was done.
#[derive(Clone, Debug, Default)]
pub struct Done(Arc<Mutex<HashMap<String, usize>>>);

impl Done {
    pub fn add(&self, request: &Bytes) {
        let request = String::from_utf8_lossy(request).into_owned();
        *self.0.lock().unwrap().entry(request).or_default() += 1;
    }

    /// How many different requests were done.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// How many calls too many were made.
    pub fn repeated(&self) -> usize {
        self.0.lock().unwrap().values().map(|times| times - 1).sum()
    }

    pub fn times(&self, request: &str) -> usize {
        self.0.lock().unwrap().get(request).copied().unwrap_or(0)
    }
}

/// Stores the requests `0` to `many`.
pub async fn store(queue: &Queue, many: usize) {
    let producer = queue.producer(Raw::new());
    futures::stream::iter(0..many)
        .for_each_concurrent(128, |nth| {
            let producer = producer.clone();
            async move {
                producer.store(Bytes::from(nth.to_string())).await.expect("stored");
            }
        })
        .await;
}

/// The state of a stream.
pub async fn state(client: &async_nats::Client, stream: &str) -> State {
    let context = async_nats::jetstream::new(client.clone());
    context.get_stream(stream).await.expect("a stream").cached_info().state.clone()
}

/// How many messages are delivered and not settled, for all workers.
pub async fn ack_pending(client: &async_nats::Client, stream: &str) -> usize {
    let context = async_nats::jetstream::new(client.clone());
    let stream = context.get_stream(stream).await.expect("a stream");
    let mut consumer: PullConsumer = stream.get_consumer("workers").await.expect("a consumer");
    consumer.info().await.expect("an answer").num_ack_pending
}
