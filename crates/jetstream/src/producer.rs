use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap,
    connection::State,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use tower::{BoxError, Service};
use tower_load_leveling::error::{Reason, Rejected};

use crate::{Codec, Error, Key, NoKey, Queue};

/// The longest wait for the broker to answer a publish. A shorter wait turns more restarts of the
/// broker into [`Error::Unknown`]; a longer wait holds producers up during a restart.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a waiting producer looks at the connection.
const LOOK: Duration = Duration::from_millis(100);

/// The longest id, in bytes.
const MAX_ID: usize = 512;

/// The room for headers in the largest message of the broker. Without the room, a message could be
/// stored, and the dead letter, with more headers, could not.
const HEADERS: usize = 4 << 10;

/// The shortest time between two measurements of the stream's drain rate.
const MEASURE: Duration = Duration::from_secs(1);

/// A service to store requests in the stream of a [`Queue`].
///
/// A response is a [`Receipt`]: the broker has stored the message. Always ready; a call waits while
/// the client's own buffer is full.
///
/// # Errors
///
/// [`Rejected`] with [`Reason::Full`] if the stream is full, or an [`Error`]; each as a
/// [`BoxError`]. Only [`Error::Unknown`] leaves open whether the message was stored.
///
/// # Cancel safety
///
/// A dropped call may or may not have been stored, as with [`Error::Unknown`].
#[derive(Debug)]
pub struct Producer<C, I = RandomId, K = NoKey> {
    shared: Arc<Shared<C, I, K>>,
}

#[derive(Debug)]
struct Shared<C, I, K> {
    queue: Queue,
    codec: C,
    ids: I,
    keys: K,
    drained: Mutex<Drained>,
}

/// A request in the form of the stream.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
}

/// The proof that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    id: String,
    sequence: u64,
    duplicate: bool,
}

/// The id of a request. Requests with the same id are one message within the
/// [duplicate window](crate::queue::Builder::duplicate_window).
///
/// Implemented for closures `Fn(&Req) -> String`.
pub trait Identify<Req>: Send + Sync + 'static {
    /// Returns the id: 1 to 512 bytes, without control characters, and without space at the ends.
    /// The producer refuses others as [`Error::Encode`].
    fn identify(&self, request: &Req) -> String;
}

impl<Req, F: Fn(&Req) -> String + Send + Sync + 'static> Identify<Req> for F {
    fn identify(&self, request: &Req) -> String {
        self(request)
    }
}

/// The default [`Identify`]: a random id for each call.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RandomId;

impl<Req> Identify<Req> for RandomId {
    fn identify(&self, _request: &Req) -> String {
        // 22 characters in base 62, of which 12 are random and 10 count.
        nuid::next().to_string()
    }
}

impl<C> Producer<C> {
    pub(crate) fn new(queue: Queue, codec: C) -> Self {
        let drained = Mutex::default();
        let shared = Shared { queue, codec, ids: RandomId, keys: NoKey, drained };
        Self { shared: Arc::new(shared) }
    }
}

impl<C: Clone, I, K: Clone> Producer<C, I, K> {
    /// Takes the ids of messages from the requests.
    #[must_use]
    pub fn identify<J>(self, ids: J) -> Producer<C, J, K> {
        let Shared { queue, codec, keys, .. } = &*self.shared;
        let (queue, codec, keys) = (queue.clone(), codec.clone(), keys.clone());
        let shared = Shared { queue, codec, ids, keys, drained: Mutex::default() };
        Producer { shared: Arc::new(shared) }
    }
}

impl<C: Clone, I: Clone, K> Producer<C, I, K> {
    /// Takes the keys of messages from the requests.
    ///
    /// Required for a queue [in order](crate::queue::Builder::in_order): without a key, a store is
    /// an [`Error::Encode`]. A key in a queue without order is an [`Error::Encode`] too.
    ///
    /// The broker decides the order: wait for the receipt of a request before the store of the next
    /// request of the key. After [`Error::Unknown`], repeat the same request first.
    #[must_use]
    pub fn key<L>(self, keys: L) -> Producer<C, I, L> {
        let Shared { queue, codec, ids, .. } = &*self.shared;
        let (queue, codec, ids) = (queue.clone(), codec.clone(), ids.clone());
        let shared = Shared { queue, codec, ids, keys, drained: Mutex::default() };
        Producer { shared: Arc::new(shared) }
    }
}

impl<C, I, K> Producer<C, I, K> {
    /// Stores a request. [`Service::call`] does the same.
    ///
    /// # Errors
    ///
    /// As the service.
    pub async fn store<Req>(&self, request: Req) -> Result<Receipt, BoxError>
    where
        C: Codec<Req>,
        I: Identify<Req>,
        K: Key<Req>,
    {
        let encoded = self.encode(&request)?;
        drop(request);
        self.send(encoded, HeaderMap::new()).await
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.shared.queue
    }

    /// Returns the id, the subject and the bytes of a request.
    pub(crate) fn encode<Req>(&self, request: &Req) -> Result<Encoded, Error>
    where
        C: Codec<Req>,
        I: Identify<Req>,
        K: Key<Req>,
    {
        let Shared { queue, codec, ids, keys, .. } = &*self.shared;
        let id = ids.identify(request);
        check(&id)?;
        let subject = queue.subject(keys.key(request).as_deref())?;
        let payload = codec.encode(request).map_err(Error::Encode)?;
        Ok(Encoded { id, subject, payload })
    }

    /// Stores an encoded request.
    pub(crate) async fn send(
        &self,
        Encoded { id, subject, payload }: Encoded,
        headers: HeaderMap,
    ) -> Result<Receipt, BoxError> {
        let queue = &self.shared.queue;
        let client = queue.client();
        if client.connection_state() != State::Connected {
            return Err(Error::Away.into());
        }
        let (size, most) = (payload.len(), client.max_payload().saturating_sub(HEADERS));
        if size > most {
            let cause = format!("{size} bytes; the broker allows {most}, headers left out");
            return Err(Error::Encode(cause.into()).into());
        }
        let message = PublishMessage::build().headers(headers).message_id(&id).payload(payload);
        // A timeout means a full buffer of the client all the time: nothing has been sent.
        let sending = queue.context().send_publish(subject, message);
        let Ok(sent) = tokio::time::timeout(STORE_TIMEOUT, sending).await else {
            return Err(Error::Away.into());
        };
        let answer = sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Error::Encode(error.into()),
            PublishErrorKind::BrokenPipe => Error::Closed,
            _ => Error::NotStored(error.into()),
        })?;
        let mut answer = answer.into_future();
        let sent_at = Instant::now();
        let stored = loop {
            match tokio::time::timeout(LOOK, &mut answer).await {
                Ok(stored) => break stored,
                // Any answer has gone with the connection.
                Err(_) if client.connection_state() == State::Connected => {}
                Err(_) => return Err(Error::Unknown { id }.into()),
            }
            // The client itself would wait for as long as for any answer of the broker.
            if sent_at.elapsed() >= STORE_TIMEOUT {
                return Err(Error::Unknown { id }.into());
            }
        };
        match stored {
            Ok(ack) => Ok(Receipt { id, sequence: ack.sequence, duplicate: ack.duplicate }),
            Err(error) => Err(self.shared.not_stored(error, id).await),
        }
    }
}

/// Refuses an id unfit for a header. An id with a line break would end the header.
fn check(id: &str) -> Result<(), Error> {
    let proper = (1..=MAX_ID).contains(&id.len()) && id.trim() == id;
    if !proper || id.chars().any(char::is_control) {
        let cause = format!(
            "an id has 1 to {MAX_ID} bytes, no control characters, and no space at its ends"
        );
        return Err(Error::Encode(cause.into()));
    }
    Ok(())
}

impl<C, I, K> Shared<C, I, K> {
    /// The meaning of an answer other than a receipt.
    async fn not_stored(&self, error: PublishError, id: String) -> BoxError {
        match error.kind() {
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                Error::Unknown { id }.into()
            }
            // No server listens to the subject: no leader, or no stream.
            PublishErrorKind::StreamNotFound => Error::Away.into(),
            _ if is_answer(&error) => match error.to_string().contains("maximum") {
                true => self.full().await.into(),
                false => Error::NotStored(error.into()).into(),
            },
            // An unreadable answer may have been a receipt.
            _ => Error::Unknown { id }.into(),
        }
    }

    /// The rejection of a full stream. Looks at most once a second how fast the stream drains.
    async fn full(&self) -> Rejected {
        let due = self.drained().is_due();
        if due {
            let looked = self.queue.context().get_stream(self.queue.name());
            if let Ok(Ok(stream)) = tokio::time::timeout(MEASURE, looked).await {
                let state = &stream.cached_info().state;
                self.drained().look(state.last_sequence.saturating_sub(state.messages));
            }
        }
        let capacity = self.queue.capacity();
        Rejected::new(Reason::Full)
            .with_queued(usize::try_from(capacity).unwrap_or(usize::MAX))
            .with_retry_after(self.drained().retry_after(capacity))
    }

    fn drained(&self) -> std::sync::MutexGuard<'_, Drained> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the broker has answered, and said no.
fn is_answer(error: &PublishError) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<async_nats::jetstream::Error>())
}

/// How fast the stream drains.
#[derive(Debug, Default)]
struct Drained {
    /// The last look, and how many messages had been done.
    last: Option<(Instant, u64)>,
    begun: Option<Instant>,
    per_second: Option<f64>,
}

impl Drained {
    /// Whether a look is due. True for one caller at a time.
    fn is_due(&mut self) -> bool {
        let due = self.begun.is_none_or(|at| at.elapsed() >= MEASURE);
        if due {
            self.begun = Some(Instant::now());
        }
        due
    }

    fn look(&mut self, done: u64) {
        let now = Instant::now();
        if let Some((at, before)) = self.last {
            let seconds = now.duration_since(at).as_secs_f64().max(1e-3);
            #[allow(clippy::cast_precision_loss, reason = "a rate")]
            let rate = done.saturating_sub(before) as f64 / seconds;
            self.per_second = Some(rate);
        }
        self.last = Some((now, done));
    }

    /// The time in which a hundredth of the capacity drains, 50 ms to 60 s. A second while the rate
    /// is unknown.
    fn retry_after(&self, capacity: u64) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let part = (capacity as f64 / 100.0).max(1.0);
        match self.per_second {
            None => Duration::from_secs(1),
            Some(rate) => Duration::from_secs_f64((part / rate.max(1e-9)).clamp(0.05, 60.0)),
        }
    }
}

impl Receipt {
    /// Returns the id of the message.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the message's place in the stream.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns whether a message with the same id had been stored already, within the
    /// [duplicate window](crate::queue::Builder::duplicate_window). The call stored nothing then.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

impl<C, I, K> Clone for Producer<C, I, K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Req, C, I, K> Service<Req> for Producer<C, I, K>
where
    Req: Send + 'static,
    C: Codec<Req>,
    I: Identify<Req>,
    K: Key<Req>,
{
    type Response = Receipt;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Receipt, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let producer = self.clone();
        Box::pin(async move { producer.store(request).await })
    }
}
