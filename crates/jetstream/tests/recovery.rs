//! Laws J3, J5, J14 and J15: limits that find themselves, calls that hang, connections that come
//! and go, and what a broker leaves behind. On a real broker.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream,
};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tower::service_fn;
use tower_load_leveling::{
    LoadLevelLayer,
    limit::{Algorithm, Sample},
};
use tower_load_leveling_jetstream::{Queue, Raw};

use support::{Broker, Done, LONG, ack_pending, state, store, until, until_async};

const MS: Duration = Duration::from_millis(1);

/// Asks for the limit that it is told.
struct Told(Arc<AtomicUsize>);

impl Algorithm for Told {
    fn limit(&self) -> f64 {
        self.0.load(SeqCst) as f64
    }

    fn on_sample(&mut self, _: &Sample) {}
}

/// An inner whose calls end when the gate lets them.
fn gated(
    done: &Done,
    gate: &Arc<Semaphore>,
) -> impl Fn(Bytes) -> futures::future::BoxFuture<'static, Result<(), Infallible>> + Clone + use<> {
    let (done, gate) = (done.clone(), Arc::clone(gate));
    move |request| {
        let (done, gate) = (done.clone(), Arc::clone(&gate));
        Box::pin(async move {
            gate.acquire().await.expect("open").forget();
            done.add(&request);
            Ok(())
        })
    }
}

#[tokio::test]
async fn credits_follow_a_limit_that_an_algorithm_raises_and_lowers() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    store(&queue, 100).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(0)));
    let wanted = Arc::new(AtomicUsize::new(4));
    let layer = LoadLevelLayer::builder().capacity(16).adaptive(Told(Arc::clone(&wanted)));
    let worker = queue.worker(Raw::new()).leveler(layer.build().unwrap()).prefetch(2);
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("4 + 2 in hand", || handle.stats().in_hand == 6).await;
    assert_eq!((handle.stats().most_in_hand, handle.stats().asked_for), (6, 0));
    // The next call that ends makes the algorithm ask for more.
    wanted.store(10, SeqCst);
    gate.add_permits(1);
    until("10 + 2 in hand", || done.len() == 1 && handle.stats().in_hand == 12).await;
    assert_eq!(handle.stats().most_in_hand, 12);
    assert_eq!(ack_pending(&client, "orders").await, 12);
    // And for less: nothing is asked for before there is credit again.
    wanted.store(3, SeqCst);
    gate.add_permits(1);
    until("two are done", || handle.stats().acked == 2 && handle.stats().in_hand <= 12).await;
    let pulls = handle.stats().pulls;
    gate.add_permits(6);
    until("eight are done", || handle.stats().acked == 8).await;
    let stats = handle.stats();
    assert!(stats.in_hand + stats.asked_for <= 6 || stats.pulls == pulls, "{stats:?}");
    gate.add_permits(200);
    until("all are done", || done.len() == 100).await;
    assert_eq!((handle.stats().most_in_hand, done.repeated()), (12, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_finds_itself_holds_no_more_than_it_lets_start() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").build(broker.connect().await).await.unwrap();
    store(&queue, 1000).await;
    let done = Done::default();
    let inner_done = done.clone();
    let inner = service_fn(move |request: Bytes| {
        let done = inner_done.clone();
        async move {
            tokio::time::sleep(2 * MS).await;
            done.add(&request);
            Ok::<_, Infallible>(())
        }
    });
    let layer = LoadLevelLayer::builder().capacity(64).adaptive_concurrency().build().unwrap();
    let leveler = layer.handle();
    let worker = queue.worker(Raw::new()).leveler(layer).prefetch(2).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    // A lowered limit leaves in hand what the highest one has let in.
    let mut highest = leveler.limit();
    until("all are done", || {
        highest = highest.max(leveler.limit());
        done.len() == 1000
    })
    .await;
    let most = handle.stats().most_in_hand as usize;
    // The limit may have been higher between two looks. A fixed part of the stream is far less.
    assert!(most <= 2 * highest + 2, "{most} in hand with a limit of {highest}");
    assert_eq!(done.repeated(), 0);
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_another_worker_gets_its_message() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").ack_wait(500 * MS);
    let queue = queue.build(broker.connect().await).await.unwrap();
    store(&queue, 1).await;
    let hangs = service_fn(|_: Bytes| std::future::pending::<Result<(), Infallible>>());
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 1)).prefetch(0);
    let worker = worker.give_up_after(Duration::from_secs(1)).service(hangs);
    let hanging = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("it hangs", || hanging.stats().in_hand == 1).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 1));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    tokio::spawn(worker.run_until(std::future::pending()));
    until("the other one does it", || done.times("0") == 1).await;
    // Until it gave up, the first worker gave signs. Its call goes on.
    let stats = hanging.stats();
    assert!(stats.progress > 0 && stats.in_hand == 1, "{stats:?}");
    assert!(stats.balances(), "{stats}");
}

#[tokio::test]
async fn a_message_that_comes_back_while_it_is_in_hand_is_worked_on_once() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(300 * MS).build(client.clone()).await.unwrap();
    store(&queue, 1).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(0)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4)).give_up_after(MS);
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("it comes back", || handle.stats().repeated >= 2).await;
    assert_eq!(handle.stats().in_hand, 1);
    gate.add_permits(10);
    until("acked", || handle.stats().acked == 1).await;
    let report = handle.drain(LONG).await.expect("a report");
    assert!(report.stats.balances(), "{}", report.stats);
    assert_eq!(done.times("0"), 1);
    until_async("gone", || async { state(&client, "orders").await.messages == 0 }).await;
}

#[tokio::test]
async fn what_is_in_hand_is_kept_over_a_reconnect_and_acked_on_the_new_connection() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    store(&queue, 20).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(0)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4)).prefetch(2);
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("in hand", || handle.stats().in_hand == 6).await;
    broker.restart().await;
    until("a new generation", || handle.stats().generations == 2).await;
    assert!(handle.stats().in_hand >= 6);
    gate.add_permits(1000);
    until("all are done", || done.len() == 20).await;
    until_async("all are acked", || async { state(&client, "orders").await.messages == 0 }).await;
    // `ack_wait` is 30 s: nothing had to be delivered again.
    assert_eq!(done.repeated(), 0);
}

#[tokio::test]
async fn a_silent_broker_is_noticed_and_asked_anew_when_it_speaks_again() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").build(broker.connect().await).await.unwrap();
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1000)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("asked for", || handle.stats().asked_for == 5).await;
    // The connection stays, and nothing comes: no heartbeat either.
    broker.freeze();
    until("what was asked for is given up", || handle.stats().asked_for == 0).await;
    broker.thaw();
    until("asked anew", || handle.stats().generations >= 2 && handle.stats().asked_for == 5).await;
    store(&queue, 20).await;
    until("all are done", || done.len() == 20).await;
    assert!(handle.stats().most_in_hand <= 10, "{:?}", handle.stats());
}

#[tokio::test]
async fn a_heartbeat_does_not_hide_the_next_message() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    // Sees what the broker sends to the inboxes of all.
    let mut inboxes = broker.connect().await.subscribe("_INBOX.>").await.unwrap();
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1000)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    let heartbeat = async {
        while let Some(message) = inboxes.next().await {
            if message.status == Some(async_nats::StatusCode::IDLE_HEARTBEAT) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, heartbeat).await.expect("a heartbeat");
    let before = handle.stats();
    store(&queue, 20).await;
    until("all are done", || done.len() == 20).await;
    assert_eq!((handle.stats().generations, before.asked_for), (1, 5));
}

#[tokio::test]
async fn a_pull_that_ends_with_an_error_starts_a_new_generation() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1000)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("asked for", || handle.stats().asked_for == 5).await;
    // Its pulls end with "consumer deleted". The worker makes it again.
    let stream = jetstream::new(client).get_stream("orders").await.unwrap();
    stream.delete_consumer("workers").await.unwrap();
    until("a new generation", || handle.stats().generations >= 2).await;
    store(&queue, 20).await;
    until("all are done", || done.len() == 20).await;
}

/// A stream and a consumer whose ack floor lies above stored messages, as a kill leaves them. Here
/// the stream keeps what was acked, and the consumer begins after the first ten messages.
async fn with_debris(client: &async_nats::Client, queue: &Queue) {
    let context = jetstream::new(client.clone());
    context.delete_stream("orders").await.unwrap();
    let config = stream::Config {
        name: "orders".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        retention: stream::RetentionPolicy::Limits,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    store(queue, 20).await;
    let consumer = pull::Config {
        durable_name: Some("workers".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: 500 * MS,
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 11 },
        ..pull::Config::default()
    };
    stream.create_consumer(consumer).await.unwrap();
}

#[tokio::test]
async fn what_lies_below_the_ack_floor_is_stored_again_or_removed_if_it_was_acked_here() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(500 * MS).build(client.clone()).await.unwrap();
    with_debris(&client, &queue).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1000)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    // The broker would not deliver the first ten any more.
    until("all are done", || done.len() == 20).await;
    until("ten were rescued", || handle.stats().rescued == 10).await;
    // This stream keeps what was acked. The worker removes what it knows to have acked itself: the
    // last ten, and the ten copies, at the latest after a restart.
    until("ten were removed", || handle.stats().debris >= 10).await;
    assert_eq!(done.repeated(), 0);
    broker.restart().await;
    until("all were removed", || handle.stats().debris == 20).await;
    until_async("none is left", || async { state(&client, "orders").await.messages == 0 }).await;
    assert_eq!(handle.stats().rescued, 10);
}

#[tokio::test]
async fn a_healthy_broker_has_no_debris() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").ack_wait(100 * MS);
    let queue = queue.build(broker.connect().await).await.unwrap();
    store(&queue, 500).await;
    let (done, gate) = (Done::default(), Arc::new(Semaphore::new(1000)));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(8, 8));
    let worker = worker.service(service_fn(gated(&done, &gate)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("all are acked", || handle.stats().acked >= 500).await;
    assert_eq!((handle.stats().debris, handle.stats().rescued), (0, 0));
}
