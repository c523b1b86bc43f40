//! Laws J1, J6, J10, J14 and J15: brokers and workers killed with signal 9 at random instants.
//!
//! This test binary runs itself as a worker. `KILLS` says how many runs, and `MESSAGES` how many
//! messages each: 1 and 2000 by default. Each run is made without order and in order.

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

/// How many partitions and keys the queue in order has.
const PARTITIONS: u16 = 16;
const KEYS: u64 = 50;

async fn queue(client: async_nats::Client, in_order: bool) -> Queue {
    let queue = Queue::builder("orders").ack_wait(ACK_WAIT);
    let queue = if in_order { queue.in_order(PARTITIONS) } else { queue };
    queue.build(client).await.unwrap()
}

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
    let queue = queue(client, std::env::var_os("WORKER_IN_ORDER").is_some()).await;
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
    fn start(broker: &Broker, log: &PathBuf, in_order: bool) -> Self {
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker.args(["--exact", "worker_process"]).stdout(Stdio::null()).stderr(Stdio::null());
        worker.env("WORKER_OF", broker.url()).env("WORKER_LOG", log);
        if in_order {
            worker.env("WORKER_IN_ORDER", "");
        }
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

/// The requests done before an earlier request of their key was: none, in order. And the requests
/// done again after a later request of their key.
fn out_of_order(log: &PathBuf) -> (Vec<u64>, usize) {
    let (mut next, mut early, mut again) = (std::collections::BTreeMap::new(), Vec::new(), 0);
    for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
        let Ok(request) = line.parse::<u64>() else { continue };
        let next = next.entry(request % KEYS).or_insert(request % KEYS);
        if request > *next {
            early.push(request);
        }
        again += usize::from(request + KEYS < *next);
        *next = (*next).max(request + KEYS);
    }
    (early, again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_stored_is_lost_whatever_is_killed() {
    for nth in 0..number("KILLS", 1) {
        run(nth, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_each_key_is_kept_whatever_is_killed() {
    for nth in 0..number("KILLS", 1) {
        run(nth, true).await;
    }
}

async fn run(nth: u64, in_order: bool) {
    let messages = number("MESSAGES", 2000);
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(client.clone(), in_order).await;
    let name = format!("kills-{}-{nth}-{in_order}.log", std::process::id());
    let log = std::env::temp_dir().join(name);
    let filling = tokio::spawn(async move {
        let number = |request: &Bytes| String::from_utf8_lossy(request).into_owned();
        let key = move |request: &Bytes| {
            (number(request).parse::<u64>().expect("a number") % KEYS).to_string()
        };
        let producer = queue.producer(Raw::new()).identify(number);
        let store = |nth: u64| {
            let (any, ordered) = (producer.clone(), producer.clone().key(key));
            async move {
                loop {
                    let request = Bytes::from(nth.to_string());
                    let stored = match in_order {
                        true => ordered.store(request).await,
                        false => any.store(request).await,
                    };
                    if stored.is_ok() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        // The requests of a key one after another, the keys side by side.
        let (lanes, store) = (if in_order { KEYS } else { 64 }, &store);
        futures::stream::iter(0..lanes)
            .for_each_concurrent(None, |lane| async move {
                for nth in (lane..messages).step_by(usize::try_from(lanes).unwrap()) {
                    store(nth).await;
                }
            })
            .await;
    });
    let stays = Process::start(&broker, &log, in_order);
    let dies = Process::start(&broker, &log, in_order);
    let some = 1 + random(messages / 4);
    support::until("some are done", || done(&log).len() as u64 >= some).await;
    drop(dies);
    let more = some + 1 + random(messages / 4);
    support::until("more are done", || done(&log).len() as u64 >= more).await;
    broker.restart().await;
    let another = Process::start(&broker, &log, in_order);
    filling.await.unwrap();
    let waiting = async {
        while (done(&log).len() as u64) < messages {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(300), waiting).await;
    let lost = messages - done(&log).len() as u64;
    assert!(waited.is_ok(), "{lost} of {messages} lost");
    if in_order {
        let (early, again) = out_of_order(&log);
        assert!(early.is_empty(), "{} out of order: {early:?}", early.len());
        // What 2.9 leaves below the ack floor is stored again at the tail.
        let old = client.server_info().version.starts_with("2.9.");
        assert!(old || again == 0, "{again} done again after later ones");
    } else {
        support::until_async("all acked", || async { ack_pending(&client, "orders").await == 0 })
            .await;
    }
    // Neither undone nor acked messages stay below the ack floor.
    support::until_async("the stream is empty", || async {
        state(&client, "orders").await.messages == 0
    })
    .await;
    let lines = std::fs::read_to_string(&log).unwrap().lines().count() as u64;
    let order = if in_order { ", in order" } else { "" };
    println!("run {nth}: 0 of {messages} lost{order}, {} done twice", lines - messages);
    drop((stays, another));
    let _ = std::fs::remove_file(&log);
}
