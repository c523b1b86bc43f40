//! One run: a broker, two workers, a flood, two kills.

use std::{
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_nats::{Client, jetstream};
use tokio::time::Instant;
use tower::BoxError;

use crate::{
    ACK_WAIT, Plan, WORKERS,
    broker::Broker,
    child::{self, Kind, NAME},
    producer::{Told, produce},
};

/// How often the run is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How things stood at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) stored: u64,
    pub(crate) done: usize,
    /// Delivered to a worker and not acked; unknown while the broker is away.
    pub(crate) in_hand: Option<usize>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) told: Arc<Told>,
    pub(crate) stored: u64,
    /// How often each message was done.
    pub(crate) done: HashMap<u64, usize>,
    /// Messages in the stream when nothing more happened.
    pub(crate) left: u64,
    pub(crate) moments: Vec<Moment>,
    pub(crate) kills: Vec<(Duration, &'static str)>,
    /// When the last message was done.
    pub(crate) took: Duration,
}

impl Run {
    pub(crate) fn lost(&self) -> u64 {
        self.stored - (self.done.len() as u64).min(self.stored)
    }

    pub(crate) fn twice(&self) -> usize {
        self.done.values().map(|times| times - 1).sum()
    }

    pub(crate) fn most_in_hand(&self) -> usize {
        self.moments.iter().filter_map(|moment| moment.in_hand).max().unwrap_or(0)
    }

    /// The longest time in which nothing was done although something was stored.
    pub(crate) fn standstill(&self) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for pair in self.moments.windows(2) {
            let idle = pair[0].done == pair[1].done && (pair[1].done as u64) < pair[0].stored;
            since = idle.then(|| since.unwrap_or(pair[0].at));
            longest = longest.max(since.map_or(Duration::ZERO, |since| pair[1].at - since));
        }
        longest
    }
}

/// A worker process. Asked to end when dropped.
struct Process(Child);

impl Process {
    fn start(kind: Kind, broker: &Broker, log: &Path) -> std::io::Result<Self> {
        let mut worker = Command::new(std::env::current_exe()?);
        worker.args(["--child", kind.word(), &broker.url()]).arg(log);
        Ok(Self(worker.stdin(Stdio::piped()).spawn()?))
    }

    /// Kills it with signal 9.
    fn kill(mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Reads what the workers have done.
struct Log {
    path: PathBuf,
    read: u64,
    rest: String,
    done: HashMap<u64, usize>,
    last: Instant,
}

impl Log {
    fn read(&mut self) -> Result<(), BoxError> {
        let Ok(mut file) = std::fs::File::open(&self.path) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_string(&mut self.rest)? as u64;
        let Some(end) = self.rest.rfind('\n') else { return Ok(()) };
        for line in self.rest.drain(..=end).as_str().lines() {
            *self.done.entry(line.parse()?).or_default() += 1;
        }
        self.last = Instant::now();
        Ok(())
    }
}

pub(crate) async fn run(kind: Kind, plan: &Plan) -> Result<Run, BoxError> {
    let mut broker = Broker::start().await?;
    let client = broker.connect().await;
    let queue = child::queue(client.clone()).await?;
    let name = format!("durable-{}-{}.log", std::process::id(), kind.word());
    let path = std::env::temp_dir().join(name);
    let mut log = Log {
        path: path.clone(),
        read: 0,
        rest: String::new(),
        done: HashMap::new(),
        last: Instant::now(),
    };
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Process::start(kind, &broker, &path)?);
    }
    // Both have connected, and wait.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let (told, start) = (Arc::new(Told::default()), Instant::now());
    let producing = tokio::spawn(produce(queue, *plan, Arc::clone(&told)));
    let (mut moments, mut kills) = (Vec::new(), Vec::new());
    let mut steps = 0;
    let left = loop {
        tokio::time::sleep(LOOK).await;
        log.read()?;
        let (at, stored) = (start.elapsed(), told.stored.load(Relaxed));
        let (in_hand, left) = look(&client).await.unzip();
        moments.push(Moment { at, stored, done: log.done.len(), in_hand });
        match steps {
            0 if at >= plan.kill_worker => {
                workers.remove(0).kill();
                kills.push((at, "a worker"));
            }
            1 if at >= plan.kill_worker + plan.replaced_after => {
                workers.push(Process::start(kind, &broker, &path)?);
            }
            2 if at >= plan.kill_broker => {
                broker.kill();
                kills.push((at, "the broker"));
            }
            3 if at >= plan.kill_broker + plan.away => broker.restart().await,
            4 if producing.is_finished() => {
                let all = log.done.len() as u64 >= stored && left == Some(0);
                // A worker looks for what a killed broker has left in pauses that double.
                if all || log.last.elapsed() > 10 * ACK_WAIT {
                    break left.unwrap_or(u64::MAX);
                }
                continue;
            }
            _ => continue,
        }
        steps += 1;
    };
    let stored = producing.await?;
    drop(workers);
    log.read()?;
    let _ = std::fs::remove_file(&path);
    let (took, done) = (log.last - start, log.done);
    Ok(Run { kind, told, stored, done, left, moments, kills, took })
}

/// Asks the broker how many messages are in hand and in the stream.
async fn look(client: &Client) -> Option<(usize, u64)> {
    let asking = async {
        let stream = jetstream::new(client.clone()).get_stream(NAME).await.ok()?;
        let left = stream.cached_info().state.messages;
        let consumer = stream.get_consumer::<jetstream::consumer::pull::Config>("workers").await;
        Some((consumer.ok()?.cached_info().num_ack_pending, left))
    };
    tokio::time::timeout(LOOK, asking).await.ok()?
}
