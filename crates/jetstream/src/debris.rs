//! Finds what a killed broker left below the consumer's ack floor.
//!
//! Such messages are never delivered again. Most were acked and not removed. Others were not: with
//! nats-server 2.9.10, ten messages in the hand of a worker that was killed before the broker were
//! below the floor afterwards, and undone. The floor does not tell them apart, so nothing is purged
//! by it.

use std::{
    collections::BTreeMap,
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
use tracing::{error, info};

use crate::{Queue, delivery::time, headers, settle::insert};

/// How many messages a pass looks at, at most. What is left waits for the next pass.
const PASS: usize = 10_000;

/// How many acks a worker remembers. More: fewer messages are done twice after a kill of the
/// broker; each takes some 50 bytes.
const REMEMBERED: usize = 20_000;

/// What this worker has acked lately: sequences, and when their messages were stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acked(BTreeMap<u64, SystemTime>);

impl Acked {
    pub(crate) fn add(&mut self, sequence: u64, stored_at: SystemTime) {
        self.0.insert(sequence, stored_at);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    /// Whether this message was acked here. A sequence alone does not tell: a broker that lost the
    /// end of its stream gives sequences out again.
    fn has(&self, message: &StreamMessage) -> bool {
        let stored_at = time(message.time.unix_timestamp_nanos());
        self.0.get(&message.sequence) == Some(&stored_at)
    }
}

/// What a sweep has found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) removed: u64,
    pub(crate) rescued: u64,
}

/// Removes what lies below the ack floor and was acked by this worker. After `others`, in which
/// other workers do the same, the rest is stored again at the tail, and then removed.
pub(crate) async fn sweep(
    queue: &Queue,
    mut stream: Stream,
    consumer: Consumer<Config>,
    acked: Acked,
    others: Duration,
) -> Result<Swept, async_nats::Error> {
    let mut swept = Swept::default();
    for message in below_floor(&mut stream, &consumer).await? {
        if acked.has(&message) && stream.delete_message(message.sequence).await? {
            swept.removed += 1;
        }
    }
    tokio::time::sleep(others).await;
    for message in below_floor(&mut stream, &consumer).await? {
        if !acked.has(&message) {
            store_again(queue, &message).await?;
            swept.rescued += 1;
        }
        // Another worker may have been faster.
        let _ = stream.delete_message(message.sequence).await;
    }
    if swept.removed + swept.rescued > 0 {
        let Swept { removed, rescued } = swept;
        info!(removed, rescued, "the broker had left messages that it would not deliver again");
    }
    Ok(swept)
}

async fn below_floor(
    stream: &mut Stream,
    consumer: &Consumer<Config>,
) -> Result<Vec<StreamMessage>, async_nats::Error> {
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
    Ok(found)
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
