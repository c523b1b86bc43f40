//! Answers to an [`Asker`](crate::Asker). Answers go over core NATS, and are not durable.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{Client, HeaderMap, client::PublishErrorKind};
use bytes::Bytes;
use tower::BoxError;
use tracing::debug;

use crate::{
    Codec, Delivery, Error,
    headers::{self, insert, shortened},
};

/// The fate of a message after its deadline, if no call has begun.
///
/// The worker compares the asker's deadline with the worker's clock. Messages of a
/// [`Producer`](crate::Producer) have no deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Late {
    /// The worker acks the message without a call. The request is not done.
    #[default]
    Ack,
    /// The worker calls the inner all the same. Nobody reads the answer.
    Call,
    /// The worker moves the message to the dead-letter stream without a call.
    Bury,
}

/// Encodes the answers of a worker. Implemented by [`Answers`], and by `()` for a worker without
/// answers.
pub trait EncodeAnswer<Response>: Send + Sync + 'static {
    /// Encodes a response.
    ///
    /// # Errors
    ///
    /// If the response has no encoding. The message is done all the same, and the asker gets
    /// [`Error::Answer`].
    fn encode_answer(&self, response: &Response) -> Result<Bytes, BoxError>;
}

impl<Response> EncodeAnswer<Response> for () {
    fn encode_answer(&self, _response: &Response) -> Result<Bytes, BoxError> {
        Err("the worker sends no answers: `worker::Builder::answers` makes it".into())
    }
}

/// Encodes answers by a [`Codec`]. Made by
/// [`worker::Builder::answers`](crate::worker::Builder::answers).
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers<K> {
    codec: K,
}

impl<K> Answers<K> {
    pub(crate) const fn new(codec: K) -> Self {
        Self { codec }
    }
}

impl<Response, K: Codec<Response>> EncodeAnswer<Response> for Answers<K> {
    fn encode_answer(&self, response: &Response) -> Result<Bytes, BoxError> {
        self.codec.encode(response)
    }
}

/// The word of a worker to an asker.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Bytes),
    /// The message is done, and the response could not be sent.
    Unsent(String),
    /// The worker has given the message up. No attempt follows.
    Failed(String),
    /// The deadline had passed. No attempt follows.
    Late,
}

impl Answer {
    fn kind(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Unsent(_) => "unsent",
            Self::Failed(_) => "failed",
            Self::Late => "late",
        }
    }

    /// Sends the answer, if the delivery asks for one.
    pub(crate) async fn send(self, client: &Client, queue: &str, delivery: &Delivery) {
        let Some(to) = asker_of(queue, delivery) else { return };
        let mut headers = HeaderMap::new();
        insert(&mut headers, headers::ANSWER, self.kind());
        insert(&mut headers, headers::ID, delivery.id());
        insert(&mut headers, headers::ATTEMPT, &delivery.attempt().to_string());
        insert(&mut headers, headers::SEQUENCE, &delivery.sequence().to_string());
        let payload = match self {
            Self::Done(payload) => payload,
            Self::Unsent(cause) | Self::Failed(cause) => shortened(&cause).to_owned().into(),
            Self::Late => Bytes::new(),
        };
        let sent = client.publish_with_headers(to.clone(), headers.clone(), payload).await;
        if let Err(error) = sent {
            debug!(%error, id = delivery.id(), "an answer could not be sent");
            if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                insert(&mut headers, headers::ANSWER, "unsent");
                let cause = error.to_string().into();
                let _ = client.publish_with_headers(to, headers, cause).await;
            }
        }
    }

    /// Reads the response from an answer. `None` if the message is no answer.
    pub(crate) fn read<Response>(
        message: async_nats::Message,
        id: String,
        codec: &impl Codec<Response>,
    ) -> Option<Result<Response, Error>> {
        let answer = Delivery::of_answer(message, &id);
        let text = || String::from_utf8_lossy(answer.payload()).into_owned();
        Some(match answer.header(headers::ANSWER)? {
            "done" => match codec.decode(&answer) {
                Ok(response) => Ok(response),
                Err(source) => Err(Error::Answer { id, source }),
            },
            "failed" => Err(Error::Failed { id, cause: text() }),
            "late" => Err(Error::Late { id }),
            _ => Err(Error::Answer { id, source: text().into() }),
        })
    }
}

/// The subject of the answers to a message, made of the id. A request asked again under the same
/// id gets the answer to the stored message.
pub(crate) fn subject(client: &Client, queue: &str, id: &str) -> String {
    let inbox = client.new_inbox();
    let prefix = inbox.rsplit_once('.').map_or("_INBOX", |(prefix, _)| prefix);
    format!("{prefix}{}", suffix(queue, id))
}

fn suffix(queue: &str, id: &str) -> String {
    let mut suffix = format!(".load-level.{queue}.");
    for byte in id.bytes() {
        let _ = write!(suffix, "{byte:02x}");
    }
    suffix
}

/// The subject on which a delivery wants an answer. Producers write the header, so a worker
/// publishes to no subject but an answer's: not to the broker's own, nor to the queue.
fn asker_of(queue: &str, delivery: &Delivery) -> Option<String> {
    let to = delivery.header(headers::ANSWER_TO)?;
    let prefix = to.strip_suffix(&suffix(queue, delivery.id()))?;
    let foreign = prefix.starts_with('$') || prefix.split('.').next() == Some(queue);
    (!foreign).then(|| to.to_owned())
}

/// The headers of a message with an asker.
pub(crate) fn headers(to: &str, timeout: Duration) -> HeaderMap {
    let until = (SystemTime::now() + timeout).duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut headers = HeaderMap::new();
    insert(&mut headers, headers::ANSWER_TO, to);
    insert(&mut headers, headers::ANSWER_UNTIL, &until.as_millis().to_string());
    headers
}

/// Whether the asker has stopped waiting.
pub(crate) fn is_late(delivery: &Delivery) -> bool {
    let until = delivery.header(headers::ANSWER_UNTIL).and_then(|until| until.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    until.is_some_and(|until: u64| now >= Duration::from_millis(until))
}
