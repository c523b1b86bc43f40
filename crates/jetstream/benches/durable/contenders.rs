//! The worker of this crate, and the loop.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use async_nats::jetstream::{self, consumer::PullConsumer};
use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Handle, LoadLevelLayer, Overflow,
    limit::{Bdp, LimitState},
};
use tower_load_leveling_jetstream::{Confirm, Queue, Raw};

use crate::{Error, broker::Broker, work::Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `messages()` with its defaults, a semaphore, a task for each call.
    Loop,
    Worker,
    /// A worker that waits until each ack is confirmed.
    Confirmed,
    /// A worker that finds its limit. Leaves what it has learned.
    Adaptive,
    /// The same, which starts with what the last one of the setting has learned.
    Resumed,
    /// A worker of a queue in order, with so many partitions. A thousand keys.
    InOrder(u16),
    /// The layer with the same limit, and callers that wait for it: no queue beyond the process.
    Alone,
}

#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// What the calls of each worker do.
    pub(crate) works: Vec<Work>,
    pub(crate) limit: usize,
    pub(crate) prefetch: Option<usize>,
    /// In bytes.
    pub(crate) payload: usize,
    pub(crate) messages: usize,
    /// Further messages, done before the clock begins.
    pub(crate) warm_up: usize,
    /// What the last adaptive worker has learned.
    pub(crate) learned: Arc<Mutex<Option<LimitState>>>,
}

/// Counts what is done.
#[derive(Debug)]
struct Done {
    wanted: usize,
    warm_up: usize,
    done: AtomicUsize,
    first: OnceLock<Instant>,
    all: Notify,
}

impl Done {
    fn new(setting: &Setting) -> Arc<Self> {
        Arc::new(Self {
            wanted: setting.warm_up + setting.messages,
            warm_up: setting.warm_up,
            done: AtomicUsize::new(0),
            first: OnceLock::new(),
            all: Notify::new(),
        })
    }

    /// Waits until all are done. Returns how many a second.
    async fn rate(&self, setting: &Setting) -> f64 {
        self.all.notified().await;
        let first = self.first.get().copied().unwrap_or_else(Instant::now);
        setting.messages as f64 / first.elapsed().as_secs_f64()
    }

    async fn call(self: Arc<Self>, work: Work) {
        if self.warm_up == 0 {
            self.first.get_or_init(Instant::now);
        }
        work.work().await;
        let done = self.done.fetch_add(1, SeqCst) + 1;
        if done == self.warm_up {
            self.first.get_or_init(Instant::now);
        }
        if done == self.wanted {
            self.all.notify_one();
        }
    }
}

/// Does all messages. Returns how many a second, from the first call, or the end of the warm-up, to
/// the end of the last.
pub(crate) async fn run(
    broker: &Broker,
    contender: Contender,
    setting: &Setting,
) -> Result<f64, Error> {
    if contender == Contender::Alone {
        return alone(setting).await;
    }
    static NTH: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench{}", NTH.fetch_add(1, SeqCst));
    let client = broker.connect().await;
    let queue = |client| match contender {
        Contender::InOrder(partitions) => Queue::builder(&name).in_order(partitions).build(client),
        _ => Queue::builder(&name).build(client),
    };
    let own = queue(client.clone()).await?;
    let context = jetstream::new(client);
    match contender {
        Contender::InOrder(_) => fill_in_order(&own, setting).await?,
        _ => fill(&context, &name, setting).await?,
    }
    let done = Done::new(setting);
    let (mut workers, mut levelers) = (JoinSet::new(), Vec::new());
    for work in &setting.works {
        let queue = queue(broker.connect().await).await?;
        let (work, done) = (work.clone(), Arc::clone(&done));
        if contender == Contender::Loop {
            let (name, client, limit) = (name.clone(), broker.connect().await, setting.limit);
            workers.spawn(async move {
                let ended = stock(client, &name, limit, work, done).await;
                ended.expect("a connection");
            });
            continue;
        }
        let inner = service_fn(move |_: Bytes| {
            let (work, done) = (work.clone(), Arc::clone(&done));
            async move {
                done.call(work).await;
                Ok::<_, Infallible>(())
            }
        });
        let learned = *setting.learned.lock().expect("no panic");
        let leveler = match contender {
            Contender::Adaptive => {
                LoadLevelLayer::builder().capacity(64).adaptive_concurrency().build()?
            }
            Contender::Resumed => {
                // A short test learns nothing.
                let limit = learned.map_or_else(Bdp::new, |learned| Bdp::new().resume(learned));
                LoadLevelLayer::builder().capacity(64).adaptive(limit).build()?
            }
            _ => LoadLevelLayer::new(setting.limit, setting.limit),
        };
        levelers.push(leveler.handle());
        let mut worker = queue.worker(Raw::new()).leveler(leveler);
        if let Some(prefetch) = setting.prefetch {
            worker = worker.prefetch(prefetch);
        }
        if contender == Contender::Confirmed {
            worker = worker.confirm(Confirm::Confirmed);
        }
        let worker = worker.service(inner);
        workers.spawn(async move {
            worker.run_until(std::future::pending()).await.expect("a connection");
        });
    }
    let rate = done.rate(setting).await;
    if contender == Contender::Adaptive {
        let learned = levelers.first().and_then(Handle::limit_state);
        *setting.learned.lock().expect("no panic") = learned;
    }
    workers.shutdown().await;
    context.delete_stream(&name).await?;
    let _ = context.delete_stream(format!("{name}-dead")).await;
    Ok(rate)
}

/// The control of [`Contender::Adaptive`]: what its limit costs, and not the queue.
async fn alone(setting: &Setting) -> Result<f64, Error> {
    let done = Done::new(setting);
    let layer = LoadLevelLayer::builder().capacity(64).adaptive_concurrency();
    let layer = layer.overflow(Overflow::Wait).build()?;
    let mut callers = JoinSet::new();
    let work = setting.works.first().cloned().unwrap_or(Work::Nothing);
    let inner = service_fn(move |done: Arc<Done>| {
        let work = work.clone();
        async move {
            done.call(work).await;
            Ok::<_, Infallible>(())
        }
    });
    let service = layer.layer(inner);
    for _ in 0..128 {
        let (mut service, done) = (service.clone(), Arc::clone(&done));
        callers.spawn(async move {
            loop {
                let called = async { service.ready().await?.call(Arc::clone(&done)).await };
                called.await.expect("no refusal");
            }
        });
    }
    let rate = done.rate(setting).await;
    callers.shutdown().await;
    Ok(rate)
}

async fn stock(
    client: async_nats::Client,
    name: &str,
    limit: usize,
    work: Work,
    done: Arc<Done>,
) -> Result<(), Error> {
    let stream = jetstream::new(client).get_stream(name).await?;
    let consumer: PullConsumer = stream.get_consumer("workers").await?;
    let slots = Arc::new(Semaphore::new(limit));
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        // The connection was lost, or the broker was silent for a while.
        let Ok(message) = message else { continue };
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (work, done) = (work.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            done.call(work).await;
            let _ = message.ack().await;
            drop(slot);
        });
    }
    Ok(())
}

/// Stores the messages under a thousand keys.
async fn fill_in_order(queue: &Queue, setting: &Setting) -> Result<(), Error> {
    let nth = Arc::new(AtomicUsize::new(0));
    let key = move |_: &Bytes| (nth.fetch_add(1, SeqCst) % 1000).to_string();
    let producer = queue.producer(Raw::new()).key(key);
    let payload = Bytes::from(vec![b'x'; setting.payload]);
    let stores = (0..setting.messages).map(|_| {
        let (producer, payload) = (producer.clone(), payload.clone());
        async move { producer.store(payload).await }
    });
    let mut stores = futures::stream::iter(stores).buffer_unordered(256);
    while let Some(stored) = stores.next().await {
        stored?;
    }
    Ok(())
}

/// Stores the messages.
async fn fill(context: &jetstream::Context, name: &str, setting: &Setting) -> Result<(), Error> {
    let payload = Bytes::from(vec![b'x'; setting.payload]);
    let stores = (0..setting.warm_up + setting.messages).map(|_| {
        let (context, subject, payload) = (context.clone(), format!("{name}.new"), payload.clone());
        async move {
            context.publish(subject, payload).await?.await?;
            Ok::<_, Error>(())
        }
    });
    let mut stores = futures::stream::iter(stores).buffer_unordered(256);
    while let Some(stored) = stores.next().await {
        stored?;
    }
    Ok(())
}
