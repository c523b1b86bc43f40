//! Law J10: calls of a key are made one at a time and in order. On a real broker.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_nats::jetstream::{self, consumer::PullConsumer};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tower::{BoxError, service_fn};
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_jetstream::{Error, Json, Queue, Raw, WorkerHandle};

use support::{Broker, LONG, state, until, until_async};

const MS: Duration = Duration::from_millis(1);

/// A request: the key, and the number among those of the key.
type Request = (String, u32);

fn key(request: &Request) -> String {
    request.0.clone()
}

async fn in_order(broker: &Broker, partitions: u16) -> Queue {
    let queue = Queue::builder("orders").in_order(partitions).ack_wait(500 * MS);
    queue.build(broker.connect().await).await.unwrap()
}

/// Stores `0` to `many` of each key, each after the receipt of the one before.
async fn store(queue: &Queue, keys: impl IntoIterator<Item = String>, many: u32) {
    let producer = queue.producer(Json::<Request>::new()).key(key);
    futures::stream::iter(keys)
        .for_each_concurrent(32, |key| {
            let producer = producer.clone();
            async move {
                for nth in 0..many {
                    producer.store((key.clone(), nth)).await.expect("stored");
                }
            }
        })
        .await;
}

fn keys(many: usize) -> impl Iterator<Item = String> {
    (0..many).map(|nth| format!("key-{nth}"))
}

/// What all workers of a test see of the order.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// The next number of each key.
    next: BTreeMap<String, u32>,
    running: BTreeSet<String>,
    tries: BTreeMap<Request, usize>,
    done: usize,
    again: usize,
    faults: Vec<String>,
}

impl Watch {
    /// A call begins. Returns how many calls of the request there were before.
    fn begin(&self, request: &Request) -> usize {
        let mut seen = self.0.lock().unwrap();
        if !seen.running.insert(request.0.clone()) {
            seen.faults.push(format!("{request:?} beside another call of its key"));
        }
        if seen.next.get(&request.0).copied().unwrap_or(0) < request.1 {
            seen.faults.push(format!("{request:?} before the one before"));
        }
        let tries = seen.tries.entry(request.clone()).or_default();
        *tries += 1;
        *tries - 1
    }

    fn end(&self, request: &Request, done: bool) {
        let mut seen = self.0.lock().unwrap();
        seen.running.remove(&request.0);
        let next = seen.next.entry(request.0.clone()).or_default();
        let first = *next == request.1;
        *next += u32::from(done && first);
        seen.done += usize::from(done && first);
        seen.again += usize::from(done && !first);
    }

    fn done(&self) -> usize {
        self.0.lock().unwrap().done
    }

    fn assert(&self) {
        let seen = self.0.lock().unwrap();
        assert!(seen.faults.is_empty(), "{:?}", &seen.faults[..seen.faults.len().min(5)]);
    }
}

/// A call, which ends when dropped: with its worker at the latest.
struct Call {
    watch: Watch,
    request: Request,
    /// How many calls of the request there were before.
    before: usize,
    done: bool,
}

impl Call {
    fn new(watch: &Watch, request: Request) -> Self {
        let before = watch.begin(&request);
        Self { watch: watch.clone(), request, before, done: false }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.watch.end(&self.request, self.done);
    }
}

/// A worker whose calls take a while, and fail as told.
fn work(
    queue: &Queue,
    watch: &Watch,
    (limit, prefetch): (usize, usize),
    fails: impl Fn(&Request, usize) -> bool + Clone + Send + Sync + 'static,
) -> (WorkerHandle, tokio::task::JoinHandle<()>) {
    let watch = watch.clone();
    let inner = service_fn(move |request: Request| {
        let (watch, fails) = (watch.clone(), fails.clone());
        async move {
            let mut call = Call::new(&watch, request);
            tokio::time::sleep(MS).await;
            let failed = fails(&call.request, call.before);
            call.done = !failed;
            if failed { Err(BoxError::from("not yet")) } else { Ok(()) }
        }
    });
    let layer = LoadLevelLayer::new(64, limit);
    let worker = queue.worker(Json::<Request>::new()).leveler(layer).prefetch(prefetch);
    let worker = worker.backoff(5 * MS, 20 * MS).service(inner);
    let handle = worker.handle();
    let working = tokio::spawn(async move {
        worker.run_until(std::future::pending()).await.expect("a connection");
    });
    (handle, working)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_key_are_made_one_at_a_time_and_in_order_by_many_workers() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, watch) = (in_order(&broker, 8).await, Watch::default());
    let filling = tokio::spawn({
        let queue = queue.clone();
        async move { store(&queue, keys(20), 20).await }
    });
    // Each third message fails at first.
    let fails = |request: &Request, before| request.1.is_multiple_of(3) && before == 0;
    // The smallest first: beside the others it may come too late for each message.
    let mut workers = Vec::new();
    for room in [(1, 0), (2, 1), (8, 2)] {
        let (handle, _) = work(&queue, &watch, room, fails);
        until("the worker has something", || handle.stats().delivered > 0).await;
        workers.push((handle, room));
    }
    until("all are done", || watch.done() == 400).await;
    filling.await.unwrap();
    watch.assert();
    until_async("none is left", || async { state(&client, "orders").await.messages == 0 }).await;
    for (handle, (limit, prefetch)) in workers {
        let report = handle.drain(LONG).await.expect("a report");
        assert!(report.stats.balances(), "{}", report.stats);
        assert_eq!(report.stats.requeued, 0);
        assert!(report.stats.most_in_hand <= limit as u64 + prefetch as u64, "{}", report.stats);
    }
    assert_eq!(watch.0.lock().unwrap().again, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_holds_across_crashes_of_workers_and_of_the_broker() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, watch) = (in_order(&broker, 4).await, Watch::default());
    store(&queue, keys(8), 60).await;
    let never = |_: &Request, _| false;
    let mut workers = [(3, 1), (3, 1)].map(|room| work(&queue, &watch, room, never));
    for nth in 1..=4 {
        until("some are done", || watch.done() >= 60 * nth).await;
        workers[nth % 2].1.abort();
        let _ = (&mut workers[nth % 2].1).await;
        if nth == 2 {
            broker.restart().await;
        }
        workers[nth % 2] = work(&queue, &watch, (3, 1), never);
    }
    until("all are done", || watch.done() == 480).await;
    watch.assert();
    until_async("none is left", || async { state(&client, "orders").await.messages == 0 }).await;
}

#[tokio::test]
async fn a_retry_holds_its_partition_and_no_other_and_a_burial_lets_it_go_on() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, watch) = (in_order(&broker, 16).await, Watch::default());
    store(&queue, keys(20), 3).await;
    let stream = jetstream::new(client.clone()).get_stream("orders").await.unwrap();
    let (mut subjects, mut held) = (BTreeMap::<_, u64>::new(), None);
    for sequence in 1..=60 {
        let message = stream.get_raw_message(sequence).await.unwrap();
        held = held.or((message.payload == r#"["key-7",0]"#).then(|| message.subject.clone()));
        *subjects.entry(message.subject).or_default() += 1;
    }
    let beside = subjects[&held.expect("stored")];
    assert!((3..60).contains(&beside), "{beside} in the partition");
    let gate = Arc::new(AtomicUsize::new(0));
    let inner_gate = Arc::clone(&gate);
    // The first message of one key fails until it is buried: after the gate has opened.
    let inner_watch = watch.clone();
    let inner = service_fn(move |request: Request| {
        let bad = request == ("key-7".to_owned(), 0);
        inner_watch.begin(&request);
        inner_watch.end(&request, !bad || inner_gate.load(SeqCst) > 0);
        std::future::ready(if bad { Err(BoxError::from("poison")) } else { Ok(()) })
    });
    let judge = {
        let gate = Arc::clone(&gate);
        move |_: &tower_load_leveling_jetstream::Delivery, result: Result<&(), &BoxError>| {
            use tower_load_leveling_jetstream::Verdict::{Ack, Bury, Retry};
            match (result, gate.load(SeqCst)) {
                (Ok(()), _) => Ack,
                (Err(_), 0) => Retry { after: Some(20 * MS) },
                (Err(_), _) => Bury,
            }
        }
    };
    let worker = queue.worker(Json::<Request>::new()).leveler(LoadLevelLayer::new(8, 2));
    let worker = worker.judge(judge).max_attempts(100_000).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    // Others of its partition wait with it. All other partitions are done.
    until_async("only that partition is left", || async {
        state(&client, "orders").await.messages == beside && handle.stats().naked >= 5
    })
    .await;
    assert_eq!(watch.done() as u64, 60 - beside);
    assert!(!watch.0.lock().unwrap().tries.contains_key(&("key-7".to_owned(), 1)));
    gate.store(1, SeqCst);
    until("all others are done", || watch.done() == 60 && handle.stats().buried == 1).await;
    watch.assert();
    assert_eq!(handle.stats().requeued, 0);
    let dead = jetstream::new(client.clone()).get_stream("orders-dead").await.unwrap();
    let letter = dead.get_raw_message(1).await.unwrap();
    assert!(letter.subject.starts_with("orders-dead.in-order-16."), "{}", letter.subject);
}

#[tokio::test]
async fn a_worker_with_less_room_than_partitions_comes_to_all_and_holds_no_more() {
    let broker = Broker::start().await.unwrap();
    let (queue, watch) = (in_order(&broker, 64).await, Watch::default());
    store(&queue, keys(100), 3).await;
    let (handle, _) = work(&queue, &watch, (2, 1), |_, _| false);
    until("all are done", || watch.done() == 300).await;
    watch.assert();
    assert!(handle.stats().most_in_hand <= 3, "{:?}", handle.stats());
    // And idle, for long enough to look at each partition: what comes is found.
    until("all was looked at", || handle.stats().asked_for == 3).await;
    store(&queue, ["another".to_owned()], 3).await;
    until("that too", || watch.done() == 303).await;
}

#[tokio::test]
async fn a_worker_with_room_for_all_partitions_asks_each_and_then_rests() {
    let broker = Broker::start().await.unwrap();
    let (queue, watch) = (in_order(&broker, 8).await, Watch::default());
    let (handle, _) = work(&queue, &watch, (8, 2), |_, _| false);
    until("asked for", || handle.stats().asked_for == 8).await;
    let pulls = handle.stats().pulls;
    store(&queue, keys(30), 1).await;
    until("all are done", || watch.done() == 30).await;
    // One pull for each message, and some that have ended meanwhile.
    until("asked for again", || handle.stats().asked_for == 8).await;
    assert!(handle.stats().pulls - pulls <= 30 + 8 * 20, "{:?}", handle.stats());
}

#[tokio::test]
async fn pulls_that_the_broker_forgets_are_made_again() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, watch) = (in_order(&broker, 8).await, Watch::default());
    let (handle, _) = work(&queue, &watch, (8, 0), |_, _| false);
    until("asked for", || handle.stats().asked_for == 8).await;
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    stream.delete_consumer("workers-3").await.unwrap();
    until("a new generation", || handle.stats().generations >= 2).await;
    let generations = handle.stats().generations;
    broker.freeze();
    until("what was asked for is given up", || handle.stats().asked_for == 0).await;
    broker.thaw();
    until("another generation", || handle.stats().generations > generations).await;
    store(&queue, keys(30), 2).await;
    until("all are done", || watch.done() == 60).await;
    watch.assert();
}

#[tokio::test]
async fn overload_and_drains_keep_the_order_and_bury_nothing() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, watch) = (in_order(&broker, 2).await, Watch::default());
    store(&queue, keys(4), 3).await;
    // Another user of the leveler holds its slot, so that requests are removed late each time.
    let layer = LoadLevelLayer::builder().capacity(8).concurrency(1);
    let layer = layer.max_wait(5 * MS).build().unwrap();
    let hangs = service_fn(|(): ()| std::future::pending::<Result<(), Infallible>>());
    let mut other = tower::Layer::layer(&layer, hangs);
    let held = tokio::spawn(tower::Service::call(&mut other, ()));
    until("held", || layer.handle().stats().in_flight == 1).await;
    let inner_watch = watch.clone();
    let inner = service_fn(move |request: Request| {
        inner_watch.begin(&request);
        inner_watch.end(&request, true);
        std::future::ready(Ok::<_, Infallible>(()))
    });
    let leveler = layer.handle();
    let worker = queue.worker(Json::<Request>::new()).leveler(layer);
    let worker = worker.max_attempts(1).max_deliveries(3).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("removed far more often", || leveler.stats().removed.max_wait >= 20).await;
    assert!(handle.stats().naked <= 4, "{}", handle.stats());
    held.abort();
    until("all are done", || watch.done() == 12).await;
    watch.assert();
    assert_eq!((handle.stats().requeued, handle.stats().buried), (0, 0));
    assert_eq!(state(&client, "orders-dead").await.messages, 0);
}

#[tokio::test]
async fn a_drain_while_the_leveler_is_overloaded_gives_everything_back_in_order() {
    let broker = Broker::start().await.unwrap();
    let (queue, watch) = (in_order(&broker, 2).await, Watch::default());
    store(&queue, keys(4), 3).await;
    let layer = LoadLevelLayer::builder().capacity(8).concurrency(1);
    let layer = layer.max_wait(5 * MS).build().unwrap();
    let hangs = service_fn(|(): ()| std::future::pending::<Result<(), Infallible>>());
    let mut other = tower::Layer::layer(&layer, hangs);
    let _held = tokio::spawn(tower::Service::call(&mut other, ()));
    until("held", || layer.handle().stats().in_flight == 1).await;
    let leveler = layer.handle();
    let inner = service_fn(|_: Request| std::future::ready(Ok::<_, Infallible>(())));
    let worker = queue.worker(Json::<Request>::new()).leveler(layer);
    let worker = worker.max_attempts(1).max_deliveries(1).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("removed often", || leveler.stats().removed.max_wait >= 6).await;
    let report = handle.drain(LONG).await.expect("a report");
    assert!(report.drained && report.stats.balances(), "{}", report.stats);
    assert_eq!((report.stats.acked, report.stats.buried, report.stats.requeued), (0, 0, 0));
    work(&queue, &watch, (4, 0), |_, _| false);
    until("all are done", || watch.done() == 12).await;
    watch.assert();
}

#[tokio::test]
async fn a_drain_gives_back_what_waits_and_the_next_worker_goes_on_in_order() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").in_order(4).ack_wait(Duration::from_secs(600));
    let queue = queue.build(broker.connect().await).await.unwrap();
    store(&queue, keys(12), 3).await;
    let (watch, gate) = (Watch::default(), Arc::new(Semaphore::new(0)));
    let (inner_watch, inner_gate) = (watch.clone(), Arc::clone(&gate));
    let inner = service_fn(move |request: Request| {
        let (watch, gate) = (inner_watch.clone(), Arc::clone(&inner_gate));
        async move {
            watch.begin(&request);
            gate.acquire().await.expect("open").forget();
            watch.end(&request, true);
            Ok::<_, Infallible>(())
        }
    });
    let worker = queue.worker(Json::<Request>::new()).leveler(LoadLevelLayer::new(8, 1));
    let worker = worker.prefetch(3).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("full hands", || handle.stats().in_hand == 4).await;
    let draining = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(LONG).await.expect("a report") }
    });
    until("given back", || handle.stats().naked == 3).await;
    gate.add_permits(1);
    assert!(draining.await.unwrap().drained);
    work(&queue, &watch, (4, 0), |_, _| false);
    until("all are done", || watch.done() == 36).await;
    watch.assert();
}

#[tokio::test]
async fn messages_that_wait_in_other_partitions_are_no_debris() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").in_order(8).ack_wait(100 * MS);
    let queue = queue.build(client.clone()).await.unwrap();
    // All messages of the first key are older than those of the others.
    store(&queue, ["first".to_owned()], 20).await;
    store(&queue, keys(30), 1).await;
    let gate = Arc::new(Semaphore::new(0));
    let workers = [(); 2].map(|()| {
        let gate = Arc::clone(&gate);
        let inner = service_fn(move |request: Request| {
            let gate = Arc::clone(&gate);
            async move {
                if request.0 == "first" {
                    gate.acquire().await.expect("open").forget();
                }
                Ok::<_, Infallible>(())
            }
        });
        let worker = queue.worker(Json::<Request>::new()).leveler(LoadLevelLayer::new(8, 8));
        worker.service(inner)
    });
    let handles = [workers[0].handle(), workers[1].handle()];
    let [first, second] = workers;
    tokio::spawn(first.run_until(std::future::pending()));
    until("the others are done", || handles[0].stats().in_hand == 1).await;
    until_async("their partitions are empty", || async {
        (20..=30).contains(&state(&client, "orders").await.messages)
    })
    .await;
    // Looks for debris at once. In the time of so many signs, three of `ack_wait` pass.
    let signs = handles[0].stats().progress;
    tokio::spawn(second.run_until(std::future::pending()));
    until("a while", || handles[0].stats().progress >= signs + 10).await;
    gate.add_permits(100);
    until("all are done", || handles.iter().map(|worker| worker.stats().acked).sum::<u64>() == 50)
        .await;
    for handle in handles {
        assert_eq!((handle.stats().rescued, handle.stats().debris), (0, 0));
    }
}

#[tokio::test]
async fn a_missing_key_and_a_needless_key_are_refused() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let plain = Queue::builder("plain").build(client.clone()).await.unwrap();
    let queue = Queue::builder("orders").in_order(4).build(client.clone()).await.unwrap();
    let by_text = |request: &Bytes| String::from_utf8_lossy(request).into_owned();
    for stored in [
        queue.producer(Raw::new()).store(Bytes::from("a")).await,
        plain.producer(Raw::new()).key(by_text).store(Bytes::from("a")).await,
    ] {
        let error = stored.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::Encode(_))), "{error}");
    }
    let producer = queue.producer(Raw::new()).identify(by_text).key(by_text);
    assert_eq!(producer.store(Bytes::from("a")).await.unwrap().id(), "a");
    let producer = queue.producer(Raw::new()).key(by_text).identify(by_text);
    assert!(producer.store(Bytes::from("a")).await.unwrap().is_duplicate());
}

#[tokio::test]
async fn another_number_of_partitions_is_a_mismatch_and_changes_nothing() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let build = |partitions: Option<u16>, name: &str| {
        let builder = Queue::builder(name);
        let builder = partitions.into_iter().fold(builder, |builder, n| builder.in_order(n));
        builder.build(client.clone())
    };
    build(Some(4), "orders").await.unwrap();
    build(Some(4), "orders").await.unwrap();
    build(None, "plain").await.unwrap();
    for (partitions, name) in [(Some(8), "orders"), (None, "orders"), (Some(4), "plain")] {
        let built = build(partitions, name).await;
        assert!(matches!(built, Err(Error::Mismatch(_))), "{built:?}");
    }
    let context = jetstream::new(client.clone());
    for (name, many) in [("orders", 4), ("plain", 1)] {
        let mut stream = context.get_stream(name).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.consumer_count, many);
    }
    let stream = context.get_stream("orders").await.unwrap();
    let consumer: PullConsumer = stream.get_consumer("workers-3").await.unwrap();
    assert_eq!(consumer.cached_info().config.max_ack_pending, 1);
}

#[tokio::test]
async fn an_asker_in_order_gets_its_answer() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").in_order(4).build(broker.connect().await).await.unwrap();
    let inner = service_fn(|request: Bytes| std::future::ready(Ok::<_, Infallible>(request)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(8, 8));
    let worker = worker.answers(Raw::new()).service(inner);
    tokio::spawn(worker.run_until(std::future::pending()));
    let by_text = |request: &Bytes| String::from_utf8_lossy(request).into_owned();
    let asker = queue.asker::<Bytes, _, _>(Raw::new(), Raw::new()).key(by_text);
    for nth in 0..20 {
        let request = Bytes::from(format!("request {nth}"));
        assert_eq!(asker.ask(request.clone()).await.unwrap(), request);
    }
}
