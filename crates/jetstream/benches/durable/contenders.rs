//! The worker of this crate, and the loop.

use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
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
use tower::service_fn;
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_jetstream::{Confirm, Queue, Raw};

use crate::{Error, broker::Broker, work::Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `messages()` with its defaults, a semaphore, a task for each call.
    Loop,
    Worker,
    /// A worker that waits until each ack is confirmed.
    Confirmed,
    /// A worker that finds its limit.
    Adaptive,
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
}

/// Counts what is done.
#[derive(Debug)]
struct Done {
    wanted: usize,
    done: AtomicUsize,
    first: OnceLock<Instant>,
    all: Notify,
}

impl Done {
    async fn call(self: Arc<Self>, work: Work) {
        self.first.get_or_init(Instant::now);
        work.work().await;
        if self.done.fetch_add(1, SeqCst) + 1 == self.wanted {
            self.all.notify_one();
        }
    }
}

/// Does all messages. Returns how many a second, from the first call to the end of the last.
pub(crate) async fn run(
    broker: &Broker,
    contender: Contender,
    setting: &Setting,
) -> Result<f64, Error> {
    static NTH: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench{}", NTH.fetch_add(1, SeqCst));
    let client = broker.connect().await;
    Queue::builder(&name).build(client.clone()).await?;
    let context = jetstream::new(client);
    fill(&context, &name, setting).await?;
    let done = Arc::new(Done {
        wanted: setting.messages,
        done: AtomicUsize::new(0),
        first: OnceLock::new(),
        all: Notify::new(),
    });
    let mut workers = JoinSet::new();
    for work in &setting.works {
        let queue = Queue::builder(&name).build(broker.connect().await).await?;
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
        let leveler = match contender {
            Contender::Adaptive => {
                LoadLevelLayer::builder().capacity(64).adaptive_concurrency().build()?
            }
            _ => LoadLevelLayer::new(setting.limit, setting.limit),
        };
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
    done.all.notified().await;
    let first = done.first.get().copied().unwrap_or_else(Instant::now);
    let rate = setting.messages as f64 / first.elapsed().as_secs_f64();
    workers.shutdown().await;
    context.delete_stream(&name).await?;
    let _ = context.delete_stream(format!("{name}-dead")).await;
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

/// Stores the messages.
async fn fill(context: &jetstream::Context, name: &str, setting: &Setting) -> Result<(), Error> {
    let payload = Bytes::from(vec![b'x'; setting.payload]);
    let stores = (0..setting.messages).map(|_| {
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
