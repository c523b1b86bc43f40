//! Finds the messages of a killed broker below the consumer's ack floor.
//!
//! The broker never delivers the debris again. Most was acked and not removed, and some not: with
//! nats-server 2.9.10, ten messages in the hand of a worker killed before the broker were below the
//! floor afterwards, and undone. The floor does not tell done from undone, so the crate purges
//! nothing by the floor.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{Consumer, pull::Config},
        message::{PublishMessage, StreamMessage},
        stream::{RawMessageErrorKind, Stream},
    },
};
use futures::StreamExt;
use tracing::{debug, error, info};

use crate::{
    Queue,
    delivery::time,
    headers::{self, insert},
    queue::AT_ONCE,
    stats::Counters,
};

/// How many messages a pass looks at, at most. The rest waits for the next pass.
const PASS: usize = 10_000;

/// How many acks a worker remembers. More: fewer messages are done twice after a kill of the
/// broker; each takes some 50 bytes.
const REMEMBERED: usize = 20_000;

/// The latest acks of the worker: sequences, with the times of the store.
#[derive(Debug, Default)]
pub(crate) struct Acked(Mutex<BTreeMap<u64, SystemTime>>);

impl Acked {
    pub(crate) fn add(&self, sequence: u64, stored_at: SystemTime) {
        let mut acked = self.acked();
        acked.insert(sequence, stored_at);
        if acked.len() > REMEMBERED {
            acked.pop_first();
        }
    }

    /// Whether the worker has acked the message. A sequence alone does not tell: a broker that lost
    /// the end of a stream gives sequences out again.
    fn has(&self, message: &StreamMessage) -> bool {
        let stored_at = time(message.time.unix_timestamp_nanos());
        self.acked().get(&message.sequence) == Some(&stored_at)
    }

    fn acked(&self) -> MutexGuard<'_, BTreeMap<u64, SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest time between two sweeps, unless `ack_wait` is longer. Each asks the broker for the
/// state of the consumer, at the price of the stream's leader.
const SELDOM: Duration = Duration::from_secs(30);

/// Sweeps the messages of each consumer until the ack floor has passed all messages stored before
/// now. Later messages are stored by the running broker, and cannot be debris of an earlier run.
pub(crate) async fn clean(
    queue: &Queue,
    stream: &Stream,
    consumers: Vec<Consumer<Config>>,
    acked: &Acked,
    counters: &Counters,
) {
    let cleaning = |consumer| clean_one(queue, stream.clone(), consumer, acked, counters);
    futures::stream::iter(consumers).for_each_concurrent(AT_ONCE, cleaning).await;
}

async fn clean_one(
    queue: &Queue,
    mut stream: Stream,
    consumer: Consumer<Config>,
    acked: &Acked,
    counters: &Counters,
) {
    let last = stream.cached_info().state.last_sequence;
    let ack_wait = queue.ack_wait();
    let mut pause = ack_wait;
    loop {
        match sweep(queue, &mut stream, &consumer, acked, counters).await {
            Ok(Some(floor)) if floor >= last => return,
            Ok(_) => {}
            Err(error) => debug!(%error, "could not look for debris"),
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(SELDOM.max(ack_wait));
    }
}

/// Removes messages below the ack floor with an ack by the worker. After `ack_wait`, in which
/// other workers do the same, the rest is stored again at the tail, and then removed. Returns the
/// floor if nothing lay below, or the largest number if the consumer has nothing to deliver either.
async fn sweep(
    queue: &Queue,
    stream: &mut Stream,
    consumer: &Consumer<Config>,
    acked: &Acked,
    counters: &Counters,
) -> Result<Option<u64>, async_nats::Error> {
    let (floor, found) = below_floor(stream, consumer).await?;
    if found.is_empty() {
        return Ok(Some(floor));
    }
    let (mut removed, mut rescued, mut others) = (0, 0, BTreeSet::new());
    for message in found {
        if !acked.has(&message) {
            others.insert(message.sequence);
        } else if stream.delete_message(message.sequence).await? {
            removed += 1;
        }
    }
    counters.debris.fetch_add(removed, Relaxed);
    if !others.is_empty() {
        tokio::time::sleep(queue.ack_wait()).await;
        for message in below_floor(stream, consumer).await?.1 {
            // A message new below the floor may just have been acked.
            if !others.contains(&message.sequence) {
                continue;
            }
            store_again(queue, &message).await?;
            // A second worker may have been faster.
            let _ = stream.delete_message(message.sequence).await;
            rescued += 1;
        }
    }
    counters.rescued.fetch_add(rescued, Relaxed);
    if removed + rescued > 0 {
        info!(removed, rescued, "the broker had left messages that it would not deliver again");
    }
    Ok(None)
}

async fn below_floor(
    stream: &mut Stream,
    consumer: &Consumer<Config>,
) -> Result<(u64, Vec<StreamMessage>), async_nats::Error> {
    let info = consumer.get_info().await?;
    let mut floor = info.ack_floor.stream_sequence;
    // A consumer with nothing to deliver delivers nothing below the last delivered message.
    let idle = info.num_pending == 0 && info.num_ack_pending == 0;
    if idle {
        floor = floor.max(info.delivered.stream_sequence);
    }
    // Other messages belong to other consumers.
    let subject = match &*info.config.filter_subject {
        "" => ">",
        subject => subject,
    };
    let state = &stream.info().await?.state;
    if floor > state.last_sequence {
        let last = state.last_sequence;
        error!(floor, last, "the broker lost the end of the stream: stored messages are gone");
    }
    let (mut next, mut found) = (state.first_sequence, Vec::new());
    while next <= floor && found.len() < PASS {
        let from = stream.raw_message_builder().sequence(next).next_by_subject(subject);
        match from.send().await {
            Ok(message) if message.sequence <= floor => {
                next = message.sequence + 1;
                found.push(message);
            }
            Ok(_) => break,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
            Err(error) => return Err(error.into()),
        }
    }
    // The floor of a partition stays below the messages of the rest.
    Ok((if idle { u64::MAX } else { floor }, found))
}

/// Stores one copy, however many workers do the same.
async fn store_again(queue: &Queue, message: &StreamMessage) -> Result<(), async_nats::Error> {
    let mut copy: HeaderMap = message.headers.clone();
    let text = |name| message.headers.get(name).map(|value| value.as_str().to_owned());
    let id = text(headers::ID).or_else(|| text(headers::MESSAGE_ID));
    let id = id.unwrap_or_else(|| format!("#{}", message.sequence));
    insert(&mut copy, headers::MESSAGE_ID, &format!("{id}+{}", message.sequence));
    insert(&mut copy, headers::ID, &id);
    let copy = PublishMessage::build().headers(copy).payload(message.payload.clone());
    queue.context().send_publish(message.subject.clone(), copy).await?.await?;
    Ok(())
}
