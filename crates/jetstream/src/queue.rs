//! The stream, the consumer, and the settings of both.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
        stream::{self, DiscardPolicy, RetentionPolicy, StorageType, Stream},
    },
};

use futures::{StreamExt, TryStreamExt};

use crate::{
    Asker, Codec, Error, Producer, mismatch::Comparison, order, producer::STORE_TIMEOUT, worker,
};

/// The name of the consumer of all workers of a queue. In order: the first part of the name.
const CONSUMER: &str = "workers";

/// The number of consumers opened, or looked at, at once.
pub(crate) const AT_ONCE: usize = 16;

/// A durable queue: a stream, and the consumer of all workers.
///
/// Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Queue {
    context: Context,
    stream: stream::Config,
    /// The settings of each consumer, without name and subject.
    consumer: pull::Config,
    /// The number of partitions of a queue in order.
    partitions: Option<u16>,
}

/// The settings of a [`Queue`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    capacity: i64,
    max_bytes: i64,
    replicas: usize,
    ack_wait: Duration,
    fleet_limit: i64,
    duplicate_window: Duration,
    partitions: Option<u16>,
}

impl Queue {
    /// Returns the settings of a queue: the stream `name`, with the subjects `name.>`.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            capacity: 1_000_000,
            max_bytes: 1 << 30,
            replicas: 1,
            ack_wait: Duration::from_secs(30),
            fleet_limit: 10_000,
            duplicate_window: Duration::from_secs(120),
            partitions: None,
        }
    }

    /// Returns a service to store requests.
    #[must_use]
    pub fn producer<C>(&self, codec: C) -> Producer<C> {
        Producer::new(self.clone(), codec)
    }

    /// Returns a service to store requests and wait for the answers.
    #[must_use]
    pub fn asker<Response, C, A>(&self, codec: C, answers: A) -> Asker<Response, C, A>
    where
        A: Codec<Response>,
    {
        Asker::new(self.clone(), codec, answers)
    }

    /// Returns the settings of a worker.
    #[must_use]
    pub fn worker<C>(&self, codec: C) -> worker::Builder<C> {
        worker::Builder::new(self.clone(), codec)
    }

    /// Returns the name of the queue and of the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stream.name
    }

    pub(crate) fn client(&self) -> Client {
        self.context.client()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn ack_wait(&self) -> Duration {
        self.consumer.ack_wait
    }

    pub(crate) fn fleet_limit(&self) -> usize {
        usize::try_from(self.consumer.max_ack_pending).unwrap_or(usize::MAX)
    }

    pub(crate) fn capacity(&self) -> u64 {
        u64::try_from(self.stream.max_messages).unwrap_or(u64::MAX)
    }

    /// The number of partitions, if the queue is in order.
    pub(crate) fn partitions(&self) -> Option<u16> {
        self.partitions
    }

    /// The subject of a message with a key.
    pub(crate) fn subject(&self, key: Option<&str>) -> Result<String, Error> {
        let name = self.name();
        match (self.partitions, key) {
            (None, None) => Ok(format!("{name}.new")),
            (Some(many), Some(key)) => Ok(order::subject(name, many, order::partition(key, many))),
            (Some(_), None) => Err(Error::Encode(
                "the queue is in order, and the request has no key: see `Producer::key`".into(),
            )),
            (None, Some(_)) => Err(Error::Encode(
                "the request has a key, and the queue has no order: see `Builder::in_order`".into(),
            )),
        }
    }

    /// Returns the stream and the consumers, and creates missing parts. A queue in order has a
    /// consumer for each partition, a queue without order a single consumer.
    pub(crate) async fn open(&self) -> Result<(Stream, Vec<Consumer<pull::Config>>), Error> {
        let stream = self.open_stream().await?;
        let consumers = self.open_consumers(&stream).await?;
        Ok((stream, consumers))
    }

    async fn open_stream(&self) -> Result<Stream, Error> {
        let stream = self.context.get_or_create_stream(self.stream.clone()).await;
        stream.map_err(|error| Error::Setup(error.into()))
    }

    async fn open_consumers(&self, stream: &Stream) -> Result<Vec<Consumer<pull::Config>>, Error> {
        let configs = self.consumers().into_iter().map(|config| async move {
            let name = config.durable_name.clone().unwrap_or_default();
            let consumer = stream.get_or_create_consumer(&name, config).await;
            consumer.map_err(|error| Error::Setup(error.into()))
        });
        futures::stream::iter(configs).buffered(AT_ONCE).try_collect().await
    }

    /// The settings of all consumers.
    fn consumers(&self) -> Vec<pull::Config> {
        let Some(many) = self.partitions else {
            let durable_name = Some(CONSUMER.to_owned());
            return vec![pull::Config { durable_name, ..self.consumer.clone() }];
        };
        let consumer = |nth| pull::Config {
            durable_name: Some(format!("{CONSUMER}-{nth}")),
            filter_subject: order::subject(self.name(), many, nth),
            ..self.consumer.clone()
        };
        (0..many).map(consumer).collect()
    }

    /// Creates the stream for dead letters, if missing.
    pub(crate) async fn create_dead_letters(&self, name: &str) -> Result<(), Error> {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            // A full stream refuses: the worker keeps the message then.
            discard: DiscardPolicy::New,
            num_replicas: self.stream.num_replicas,
            ..stream::Config::default()
        };
        let created = self.context.get_or_create_stream(config).await;
        created.map(drop).map_err(|error| Error::Setup(error.into()))
    }

    /// Compares the existing settings with the wanted settings.
    async fn check(&self) -> Result<(), Error> {
        let stream = self.open_stream().await?;
        let mut compared = Comparison::default();
        let (found, wanted) = (&stream.cached_info().config, &self.stream);
        compared.of("subjects", &found.subjects, &wanted.subjects);
        compared.of("retention", found.retention, wanted.retention);
        compared.of("discard", found.discard, wanted.discard);
        compared.of("storage", found.storage, wanted.storage);
        compared.of("capacity", found.max_messages, wanted.max_messages);
        compared.of("max_bytes", found.max_bytes, wanted.max_bytes);
        compared.of("replicas", found.num_replicas, wanted.num_replicas);
        compared.of("max_age", found.max_age, wanted.max_age);
        compared.of("duplicate_window", found.duplicate_window, wanted.duplicate_window);
        if found.subjects != wanted.subjects {
            // Consumers for other subjects would be a change.
            return compared.end().map_err(Error::Mismatch);
        }
        for (consumer, wanted) in self.open_consumers(&stream).await?.iter().zip(self.consumers()) {
            let found = &consumer.cached_info().config;
            compared.of("ack_policy", found.ack_policy, wanted.ack_policy);
            compared.of("ack_wait", found.ack_wait, wanted.ack_wait);
            compared.of("max_deliver", found.max_deliver, wanted.max_deliver);
            compared.of("fleet_limit", found.max_ack_pending, wanted.max_ack_pending);
            compared.of("filter_subject", &found.filter_subject, &wanted.filter_subject);
            if compared.differs() {
                break;
            }
        }
        compared.end().map_err(Error::Mismatch)
    }
}

impl Builder {
    /// Sets how many messages the stream holds at most, done messages not counted. At a full
    /// stream, a producer gets [`Rejected`](tower_load_leveling::error::Rejected). Default:
    /// 1 000 000.
    #[must_use]
    pub fn capacity(mut self, messages: u64) -> Self {
        self.capacity = i64::try_from(messages.max(1)).unwrap_or(i64::MAX);
        self
    }

    /// Sets how many bytes the stream holds at most. The broker reserves as much. Default: 1 GiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = i64::try_from(bytes.max(1)).unwrap_or(i64::MAX);
        self
    }

    /// Sets how many servers store each message, 1 to 5. With 3, a stored message survives
    /// the loss of one server. Default: 1.
    #[must_use]
    pub fn replicas(mut self, servers: usize) -> Self {
        self.replicas = servers.clamp(1, 5);
        self
    }

    /// Sets how long after a worker's last sign the broker gives a message to others. A worker
    /// gives a sign every third of the time, however long calls take. Shorter: less delay after a
    /// crash, more signs. Default: 30 s, at least 100 ms.
    #[must_use]
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait.max(Duration::from_millis(100));
        self
    }

    /// Sets how many messages all workers together may have in hand. Exact. Messages with a delayed
    /// retry count until the next delivery. Default: 10 000.
    #[must_use]
    pub fn fleet_limit(mut self, messages: usize) -> Self {
        self.fleet_limit = i64::try_from(messages.max(1)).unwrap_or(i64::MAX);
        self
    }

    /// Keeps the order of each [key](crate::Producer::key), by partitions. A key belongs to a
    /// partition. The workers make the calls of a partition in turn, in the order of the
    /// [receipts](crate::Receipt::sequence), across crashes. A message waiting for a retry holds
    /// the partition. After the burial of the message, the partition goes on.
    ///
    /// All workers together make at most `partitions` calls at once, whatever
    /// [`fleet_limit`](Self::fleet_limit) says. More: keys wait less for each other; each partition
    /// is a consumer, and costs the broker as much. A worker with limit +
    /// prefetch ≥ `partitions` has a pull at each partition, and gets messages at once. A worker
    /// with less room looks at the partitions in turn, up to 200 in a second: a message may wait
    /// 5 ms for each partition.
    ///
    /// The stream knows the number: an existing queue with a different number is a
    /// [`Mismatch`](crate::Mismatch). From 1 to 1024. Default: no order.
    ///
    /// A call may be made again, as in any queue: after a crash, the last call of a partition. A
    /// worker cut off from the broker finishes a call while a second worker repeats the call and
    /// goes on. A message given back by ten drains in a row is buried, see
    /// [`max_deliveries`](worker::Builder::max_deliveries). After a kill of nats-server 2.9,
    /// earlier calls may be made again after later calls: use a current server.
    #[must_use]
    pub fn in_order(mut self, partitions: u16) -> Self {
        self.partitions = Some(partitions.clamp(1, 1024));
        self
    }

    /// Sets for how long the broker remembers ids. Within it, a message stored twice is one
    /// message. Longer: more memory in the broker. Default: 2 minutes, the broker's.
    #[must_use]
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = window.max(Duration::from_millis(100));
        self
    }

    /// Creates the stream and the consumer, or checks the existing ones. Never changes existing
    /// ones.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] if the stream or the consumer exists with other settings;
    /// [`Error::Setup`] if the broker does not answer, or refuses.
    pub async fn build(self, client: Client) -> Result<Queue, Error> {
        // An abandoned publish makes room for others then.
        let mut context =
            jetstream::context::ContextBuilder::new().ack_timeout(STORE_TIMEOUT).build(client);
        context.set_timeout(Duration::from_secs(10));
        let queue = Queue {
            context,
            partitions: self.partitions,
            stream: stream::Config {
                subjects: match self.partitions {
                    None => vec![format!("{}.>", self.name)],
                    // No further subject: no consumer would deliver the messages.
                    Some(many) => {
                        (0..many).map(|nth| order::subject(&self.name, many, nth)).collect()
                    }
                },
                name: self.name,
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                storage: StorageType::File,
                max_messages: self.capacity,
                max_bytes: self.max_bytes,
                num_replicas: self.replicas,
                // The broker refuses a window longer than the age of messages. The age has no
                // limit here.
                duplicate_window: self.duplicate_window,
                ..stream::Config::default()
            },
            consumer: pull::Config {
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.ack_wait,
                // At a limit the broker would keep the message for ever without delivering it.
                max_deliver: -1,
                // A single message of a partition is out.
                max_ack_pending: self.partitions.map_or(self.fleet_limit, |_| 1),
                ..pull::Config::default()
            },
        };
        queue.check().await?;
        Ok(queue)
    }
}
