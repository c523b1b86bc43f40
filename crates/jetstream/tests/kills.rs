//! Laws J1, J6, J14 and J15: brokers and workers killed with signal 9 at random instants.
//!
//! This test binary runs itself as a worker. `KILLS` says how many runs, and `MESSAGES` how many
//! messages each: 1 and 2000 by default.

mod support;

use std::{
    convert::Infallible,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::StreamExt;
use tower::service_fn;
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_jetstream::{Queue, Raw};

use support::{Broker, ack_pending, state};

const ACK_WAIT: Duration = Duration::from_secs(3);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Not a test by itself: the worker process of the one below.
#[tokio::test]
async fn worker_process() {
    let (Ok(url), Ok(log)) = (std::env::var("WORKER_OF"), std::env::var("WORKER_LOG")) else {
        return;
    };
    let client = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(url)
        .await
        .unwrap();
    let queue = Queue::builder("orders").ack_wait(ACK_WAIT).build(client).await.unwrap();
    let inner = service_fn(move |request: Bytes| {
        let log = log.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let mut log = std::fs::File::options().append(true).create(true).open(log).unwrap();
            log.write_all(&[&request[..], b"\n"].concat()).unwrap();
            Ok::<_, Infallible>(())
        }
    });
    let leveler = LoadLevelLayer::new(16, 8);
    let worker = queue.worker(Raw::new()).leveler(leveler).service(inner);
    worker.run_until(std::future::pending()).await.unwrap();
}

struct Process(Child);

impl Process {
    fn start(broker: &Broker, log: &PathBuf) -> Self {
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker.args(["--exact", "worker_process"]).stdout(Stdio::null()).stderr(Stdio::null());
        worker.env("WORKER_OF", broker.url()).env("WORKER_LOG", log);
        Self(worker.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number below `most`, from the clock.
fn random(most: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) / 7 % most.max(1)
}

fn done(log: &PathBuf) -> std::collections::BTreeSet<u64> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_stored_is_lost_whatever_is_killed() {
    let messages = number("MESSAGES", 2000);
    for run in 0..number("KILLS", 1) {
        let mut broker = Broker::start().await.unwrap();
        let client = broker.connect().await;
        let queue = Queue::builder("orders").ack_wait(ACK_WAIT).build(client.clone());
        let queue = queue.await.unwrap();
        let name = format!("kills-{}-{run}.log", std::process::id());
        let log = std::env::temp_dir().join(name);
        let filling = tokio::spawn(async move {
            let producer = queue
                .producer(Raw::new())
                .identify(|request: &Bytes| String::from_utf8_lossy(request).into_owned());
            let store = |nth: u64| {
                let producer = producer.clone();
                async move {
                    while producer.store(Bytes::from(nth.to_string())).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            };
            futures::stream::iter(0..messages).for_each_concurrent(64, store).await;
        });
        let stays = Process::start(&broker, &log);
        let dies = Process::start(&broker, &log);
        let some = 1 + random(messages / 4);
        support::until("some are done", || done(&log).len() as u64 >= some).await;
        drop(dies);
        let more = some + 1 + random(messages / 4);
        support::until("more are done", || done(&log).len() as u64 >= more).await;
        broker.restart().await;
        let another = Process::start(&broker, &log);
        filling.await.unwrap();
        let waiting = async {
            while (done(&log).len() as u64) < messages {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(300), waiting).await;
        let lost = messages - done(&log).len() as u64;
        assert!(waited.is_ok(), "{lost} of {messages} lost");
        support::until_async("all acked", || async { ack_pending(&client, "orders").await == 0 })
            .await;
        // Neither undone nor acked messages stay below the ack floor.
        support::until_async("the stream is empty", || async {
            state(&client, "orders").await.messages == 0
        })
        .await;
        let lines = std::fs::read_to_string(&log).unwrap().lines().count() as u64;
        println!("run {run}: 0 of {messages} lost, {} done twice", lines - messages);
        drop((stays, another));
        let _ = std::fs::remove_file(&log);
    }
}
