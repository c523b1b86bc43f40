use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::{BoxError, Service};

use crate::{
    Codec, Error, Identify, Key, NoKey, Producer, Queue, RandomId,
    answer::{self, Answer},
};

/// The longest timeout. A clock holds no time much later.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A service that stores requests in the stream of a [`Queue`], and waits for the answers.
///
/// The request is durable, and the answer is not: an answer goes over core NATS to a waiting asker,
/// or is lost. A worker answers if it has a codec for answers, by
/// [`worker::Builder::answers`](crate::worker::Builder::answers). The worker answers after the last
/// attempt: an error before the last attempt is no answer.
///
/// The deadline travels with the request. A worker that is later does not call the inner,
/// unless [`worker::Builder::late`](crate::worker::Builder::late) says so. To survive the
/// death of a worker, a request needs a [`timeout`](Self::timeout) longer than
/// [`ack_wait`](crate::queue::Builder::ack_wait) and a call together.
///
/// ```no_run
/// # async fn example(client: async_nats::Client) -> Result<(), tower::BoxError> {
/// use std::{convert::Infallible, time::Duration};
///
/// use bytes::Bytes;
/// use tower::{ServiceExt, service_fn};
/// use tower_load_leveling::LoadLevelLayer;
/// use tower_load_leveling_jetstream::{Queue, Raw};
///
/// let queue = Queue::builder("orders").ack_wait(Duration::from_secs(5)).build(client).await?;
///
/// // In the worker's process:
/// let handler = service_fn(|order: Bytes| async move {
///     Ok::<_, Infallible>(Bytes::from(format!("{} bytes ordered", order.len())))
/// });
/// let leveler = LoadLevelLayer::new(64, 8);
/// let worker = queue.worker(Raw::new()).leveler(leveler).answers(Raw::new()).service(handler);
/// tokio::spawn(worker.run_until(std::future::pending()));
///
/// // In the asker's:
/// let asker = queue.asker(Raw::new(), Raw::new()).timeout(Duration::from_secs(20));
/// let answer = asker.oneshot(Bytes::from("one order")).await?;
/// println!("{}", String::from_utf8_lossy(&answer));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Each as a [`BoxError`]. [`Rejected`](tower_load_leveling::error::Rejected) and the errors of a
/// [`Producer`] other than [`Error::Unknown`] promise that the call stored nothing. After
/// [`Error::Unanswered`] and [`Error::Unknown`] the request may be done all the same. A call under
/// the same [id](Self::identify) waits for the answer to the stored message, if
/// the message has not been done, within the
/// [duplicate window](crate::queue::Builder::duplicate_window). [`Error::Failed`],
/// [`Error::Late`] and [`Error::Answer`] come from a worker.
///
/// # Cancel safety
///
/// A dropped call may have stored the request, and the worker may do the request. The answer is
/// lost.
pub struct Asker<Response, C, A, I = RandomId, K = NoKey> {
    producer: Producer<C, I, K>,
    answers: Arc<A>,
    timeout: Duration,
    response: PhantomData<fn() -> Response>,
}

impl<Response, C, A> Asker<Response, C, A> {
    pub(crate) fn new(queue: Queue, codec: C, answers: A) -> Self {
        let (producer, answers) = (Producer::new(queue, codec), Arc::new(answers));
        Self { producer, answers, timeout: Duration::from_secs(30), response: PhantomData }
    }
}

impl<Response, C, A, I, K> Asker<Response, C, A, I, K> {
    /// Sets how long a call waits for the answer, the time to store the request included. Default:
    /// 30 s, at most a year.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST);
        self
    }

    /// Takes the ids of messages from the requests. Requests with the same id are one message, and
    /// all callers with the id get the answer.
    #[must_use]
    pub fn identify<J>(self, ids: J) -> Asker<Response, C, A, J, K>
    where
        C: Clone,
        K: Clone,
    {
        let Self { producer, answers, timeout, response } = self;
        Asker { producer: producer.identify(ids), answers, timeout, response }
    }

    /// Takes the keys of messages from the requests, as [`Producer::key`] does.
    #[must_use]
    pub fn key<L>(self, keys: L) -> Asker<Response, C, A, I, L>
    where
        C: Clone,
        I: Clone,
    {
        let Self { producer, answers, timeout, response } = self;
        Asker { producer: producer.key(keys), answers, timeout, response }
    }

    /// Stores a request and waits for the answer. [`Service::call`] does the same.
    ///
    /// # Errors
    ///
    /// As the service.
    pub async fn ask<Req>(&self, request: Req) -> Result<Response, BoxError>
    where
        C: Codec<Req>,
        A: Codec<Response>,
        I: Identify<Req>,
        K: Key<Req>,
    {
        let deadline = Instant::now() + self.timeout;
        let encoded = self.producer.encode(&request)?;
        let id = encoded.id.clone();
        drop(request);
        let queue = self.producer.queue();
        let client = queue.client();
        let to = answer::subject(&client, queue.name(), &id);
        let headers = answer::headers(&to, self.timeout);
        // Sent before the request, on the same connection: no answer comes too early.
        let mut answers = match timeout_at(deadline, client.subscribe(to)).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) => return Err(Error::Closed.into()),
            // The client's buffer was full all the time: the request was not sent.
            Err(_) => return Err(Error::Away.into()),
        };
        let mut storing = pin!(self.producer.send(encoded, headers));
        let (mut sending, mut stored) = (true, false);
        loop {
            tokio::select! {
                biased;
                answer = answers.next() => {
                    let Some(message) = answer else { break };
                    if let Some(answer) = Answer::read(message, id.clone(), &*self.answers) {
                        return Ok(answer?);
                    }
                }
                outcome = &mut storing, if sending => {
                    sending = false;
                    match outcome {
                        Ok(_) => stored = true,
                        // An answer would be the proof of the store.
                        Err(error) if is_unknown(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                () = sleep_until(deadline) => break,
            }
        }
        Err(if stored { Error::Unanswered { id } } else { Error::Unknown { id } }.into())
    }
}

fn is_unknown(error: &BoxError) -> bool {
    matches!(error.downcast_ref(), Some(Error::Unknown { .. }))
}

impl<Response, C, A, I, K> Clone for Asker<Response, C, A, I, K> {
    fn clone(&self) -> Self {
        let (producer, answers) = (self.producer.clone(), Arc::clone(&self.answers));
        Self { producer, answers, timeout: self.timeout, response: PhantomData }
    }
}

impl<Response, C, A, I, K> fmt::Debug for Asker<Response, C, A, I, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker")
            .field("queue", &self.producer.queue().name())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<Req, Response, C, A, I, K> Service<Req> for Asker<Response, C, A, I, K>
where
    Req: Send + 'static,
    Response: 'static,
    C: Codec<Req>,
    A: Codec<Response>,
    I: Identify<Req>,
    K: Key<Req>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let asker = self.clone();
        Box::pin(async move { asker.ask(request).await })
    }
}
