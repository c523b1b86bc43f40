//! The worker processes: one of this crate, and the loop to compare with.

use std::{convert::Infallible, fs::File, io::Write, sync::Arc};

use async_nats::{Client, jetstream::consumer::PullConsumer};
use bytes::Bytes;
use futures::StreamExt;
use tokio::{io::AsyncReadExt, sync::Semaphore};
use tower::{BoxError, service_fn};
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_jetstream::{Queue, Raw};

use crate::{ACK_WAIT, CALL, LIMIT, broker};

/// The stream.
pub(crate) const NAME: &str = "orders";

/// What a worker process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A worker of this crate.
    Worker,
    /// `messages()` of the client, with a semaphore.
    Loop,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Loop => "loop",
        }
    }

    pub(crate) fn read(word: &str) -> Result<Self, BoxError> {
        let kinds = [Self::Worker, Self::Loop];
        let found = kinds.into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| format!("no worker is called {word}").into())
    }

    /// The name in the table and in the picture.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Worker => "this crate",
            Self::Loop => "the stock loop",
        }
    }
}

/// The queue, as the producer and all workers set it.
pub(crate) async fn queue(client: Client) -> Result<Queue, BoxError> {
    Ok(Queue::builder(NAME).ack_wait(ACK_WAIT).build(client).await?)
}

/// A worker process. Ends when its standard input does: on purpose, or with its parent.
pub(crate) async fn work(kind: Kind, url: &str, log: &str) -> Result<(), BoxError> {
    let client = broker::connect(url).await;
    let shutdown = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    let log = Arc::new(File::options().append(true).create(true).open(log)?);
    match kind {
        Kind::Worker => {
            let inner = service_fn(move |request| call(Arc::clone(&log), request));
            let leveler = LoadLevelLayer::new(2 * LIMIT, LIMIT);
            let worker = queue(client).await?.worker(Raw::new()).leveler(leveler).service(inner);
            worker.run_until(shutdown).await?;
        }
        Kind::Loop => {
            tokio::select! {
                ended = stock(client, log) => ended?,
                () = shutdown => {}
            }
        }
    }
    Ok(())
}

/// Takes what comes, and makes `LIMIT` calls at once.
async fn stock(client: Client, log: Arc<File>) -> Result<(), BoxError> {
    queue(client.clone()).await?;
    let stream = async_nats::jetstream::new(client).get_stream(NAME).await?;
    let consumer: PullConsumer = stream.get_consumer("workers").await?;
    let slots = Arc::new(Semaphore::new(LIMIT));
    let mut messages = consumer.messages().await?;
    // An error says that the connection was lost, or that the broker was silent. The same stream of
    // messages goes on after it: a new one would leave behind what the old one has fetched.
    while let Some(message) = messages.next().await {
        let Ok(message) = message else { continue };
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let _ = call(log, message.payload.clone()).await;
            let _ = message.ack().await;
            drop(slot);
        });
    }
    Ok(())
}

/// What a message asks for: some time, and a line in a file.
async fn call(log: Arc<File>, request: Bytes) -> Result<(), Infallible> {
    tokio::time::sleep(CALL).await;
    // One write, so that the lines of all processes stay whole.
    let written = (&*log).write_all(&[&request[..], b"\n"].concat());
    written.expect("the file is there until the end of the run");
    Ok(())
}
