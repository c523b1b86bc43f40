use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, jetstream::message::Message};
use bytes::Bytes;

use crate::headers;

/// One delivery of a message to a worker.
///
/// A [`Codec`](crate::Codec) of an [`Asker`](crate::Asker) sees an answer as a delivery too: with
/// the id, attempt and sequence of the done message.
#[derive(Clone, Debug)]
pub struct Delivery {
    id: String,
    attempt: u64,
    sequence: u64,
    pending: u64,
    stored_at: SystemTime,
    message: async_nats::Message,
}

impl Delivery {
    /// Reads a message. `None` if the message does not come from a consumer.
    pub(crate) fn read(message: Message) -> Option<Self> {
        let (sequence, delivered, pending, nanos) = {
            let info = message.info().ok()?;
            let nanos = info.published.unix_timestamp_nanos();
            (info.stream_sequence, info.delivered, info.pending, nanos)
        };
        let own = message.headers.as_ref();
        let text = |name| own.and_then(|headers| headers.get(name)).map(|value| value.as_str());
        let id = text(headers::ID).or_else(|| text(headers::MESSAGE_ID));
        let id = id.map_or_else(|| format!("#{sequence}"), str::to_owned);
        let before: u64 = text(headers::ATTEMPTS).and_then(|n| n.parse().ok()).unwrap_or(0);
        Some(Self {
            id,
            attempt: before.saturating_add(u64::try_from(delivered).unwrap_or(1)),
            sequence,
            pending,
            stored_at: time(nanos),
            message: message.message,
        })
    }

    /// An answer to an asker, for a codec.
    pub(crate) fn of_answer(message: async_nats::Message, id: &str) -> Self {
        let mut answer = Self {
            id: id.to_owned(),
            attempt: 0,
            sequence: 0,
            pending: 0,
            stored_at: SystemTime::now(),
            message,
        };
        let number = |name| answer.header(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        (answer.attempt, answer.sequence) = (number(headers::ATTEMPT), number(headers::SEQUENCE));
        answer
    }

    /// Returns the id of the message: the same in every attempt, and in the producer's receipt.
    /// `#` and the sequence for a message stored without an id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of the delivery, from 1. Deliveries to a dead worker count, and so do
    /// deliveries given back.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Returns the message's place in the stream. A copy
    /// [stored again](crate::WorkerStats::requeued) has a new place.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the subject of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// Returns the headers, if the message has any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    /// Returns the bytes of the request.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Returns when the broker stored the message, by the broker's clock. For an answer: the
    /// arrival.
    #[must_use]
    pub fn stored_at(&self) -> SystemTime {
        self.stored_at
    }

    /// Returns how many messages were undelivered at the time of the delivery.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The subject for the ack or nak.
    pub(crate) fn reply(&self) -> Option<async_nats::Subject> {
        self.message.reply.clone()
    }

    pub(crate) fn wants_answer(&self) -> bool {
        self.header(headers::ANSWER_TO).is_some()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().and_then(|headers| headers.get(name)).map(|value| value.as_str())
    }
}

/// A time of the broker's.
pub(crate) fn time(nanos: i128) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
