//! Finds what a killed broker left below the consumer's ack floor.
//!
//! Such messages are never delivered again. Most were acked and not removed. Others were not: with
//! nats-server 2.9.10, ten messages in the hand of a worker that was killed before the broker were
//! below the floor afterwards, and undone. The floor does not tell them apart, so nothing is purged
//! by it.

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
use tracing::{debug, error, info};

use crate::{Queue, delivery::time, headers, settle::insert, stats::Counters};

/// How many messages a pass looks at, at most. What is left waits for the next pass.
const PASS: usize = 10_000;

/// How many acks a worker remembers. More: fewer messages are done twice after a kill of the
/// broker; each takes some 50 bytes.
const REMEMBERED: usize = 20_000;

/// What this worker has acked lately: sequences, and when their messages were stored.
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

    /// Whether this message was acked here. A sequence alone does not tell: a broker that lost the
    /// end of its stream gives sequences out again.
    fn has(&self, message: &StreamMessage) -> bool {
        let stored_at = time(message.time.unix_timestamp_nanos());
        self.acked().get(&message.sequence) == Some(&stored_at)
    }

    fn acked(&self) -> MutexGuard<'_, BTreeMap<u64, SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest time between two sweeps, unless `ack_wait` is longer. Each asks the broker for the
/// state of its consumer, which costs the leader of the stream.
const SELDOM: Duration = Duration::from_secs(30);

/// Sweeps until the ack floor has passed all that was stored before now. What comes later is stored
/// by the broker as it runs now, and cannot be debris of an earlier one.
pub(crate) async fn clean(
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
            Ok(floor) if floor >= last => return,
            Ok(_) => {}
            Err(error) => debug!(%error, "could not look for debris"),
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(SELDOM.max(ack_wait));
    }
}

/// Removes what lies below the ack floor and was acked by this worker. After `ack_wait`, in which
/// other workers do the same, the rest is stored again at the tail, and then removed. Returns the
/// floor.
async fn sweep(
    queue: &Queue,
    stream: &mut Stream,
    consumer: &Consumer<Config>,
    acked: &Acked,
    counters: &Counters,
) -> Result<u64, async_nats::Error> {
    let (floor, found) = below_floor(stream, consumer).await?;
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
            // What has come to lie there meanwhile may just have been acked.
            if !others.contains(&message.sequence) {
                continue;
            }
            store_again(queue, &message).await?;
            // Another worker may have been faster.
            let _ = stream.delete_message(message.sequence).await;
            rescued += 1;
        }
    }
    counters.rescued.fetch_add(rescued, Relaxed);
    if removed + rescued > 0 {
        info!(removed, rescued, "the broker had left messages that it would not deliver again");
    }
    Ok(floor)
}

async fn below_floor(
    stream: &mut Stream,
    consumer: &Consumer<Config>,
) -> Result<(u64, Vec<StreamMessage>), async_nats::Error> {
    let floor = consumer.get_info().await?.ack_floor.stream_sequence;
    let state = &stream.info().await?.state;
    if floor > state.last_sequence {
        let last = state.last_sequence;
        error!(floor, last, "the broker lost the end of the stream: stored messages are gone");
    }
    let (mut next, mut found) = (state.first_sequence, Vec::new());
    while next <= floor && found.len() < PASS {
        let from = stream.raw_message_builder().sequence(next).next_by_subject(">");
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
    Ok((floor, found))
}

/// Stores one copy, whoever else does the same.
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
