//! Laws J2 to J9, J13 and J16, on a real broker.

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tower::{BoxError, service_fn};
use tower_load_leveling::{LoadLevelLayer, Overflow};
use tower_load_leveling_jetstream::{AsDelivered, Confirm, Delivery, Queue, Raw, Report, Verdict};

use support::{Broker, Done, LONG, ack_pending, state, store, until, until_async};

const MANY: usize = 200;

async fn queue(broker: &Broker) -> Queue {
    Queue::builder("orders").build(broker.connect().await).await.unwrap()
}

fn leveler(limit: usize) -> LoadLevelLayer {
    LoadLevelLayer::new(16, limit)
}

/// An inner that says what it did.
fn marks(
    done: &Done,
) -> impl Fn(Bytes) -> std::future::Ready<Result<(), Infallible>> + Clone + use<> {
    let done = done.clone();
    move |request| {
        done.add(&request);
        std::future::ready(Ok(()))
    }
}

async fn drain(handle: &tower_load_leveling_jetstream::WorkerHandle) -> Report {
    handle.drain(LONG).await.expect("a report")
}

#[tokio::test]
async fn every_stored_message_is_done_once_and_the_books_balance() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, done) = (queue(&broker).await, Done::default());
    store(&queue, MANY).await;
    let worker = queue.worker(Raw::new()).leveler(leveler(8)).service(service_fn(marks(&done)));
    let handle = worker.handle();
    let working = tokio::spawn(worker.run_until(std::future::pending()));
    until("all done", || handle.stats().acked == MANY as u64).await;
    let report = drain(&handle).await;
    assert_eq!(working.await.unwrap().unwrap(), report);
    assert!(report.drained);
    assert!(report.stats.balances(), "{}", report.stats);
    assert_eq!((done.len(), done.repeated()), (MANY, 0));
    until_async("the stream is empty", || async { state(&client, "orders").await.messages == 0 })
        .await;
}

#[tokio::test]
async fn a_message_is_acked_only_after_its_call_has_ended() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    store(&queue, 1).await;
    let gate = Arc::new(Semaphore::new(0));
    let (entered, inner_gate) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&gate));
    let inner_entered = Arc::clone(&entered);
    let inner = service_fn(move |_: Bytes| {
        inner_entered.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&inner_gate);
        async move { gate.acquire().await.map(drop) }
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(1)).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("the call runs", || entered.load(Ordering::SeqCst) == 1).await;
    client.flush().await.unwrap();
    assert_eq!(ack_pending(&client, "orders").await, 1);
    assert_eq!(state(&client, "orders").await.messages, 1);
    gate.add_permits(1);
    until("acked", || handle.stats().acked == 1).await;
    until_async("gone", || async { state(&client, "orders").await.messages == 0 }).await;
}

#[tokio::test]
async fn a_worker_that_is_dropped_acks_nothing_and_loses_nothing() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(Duration::from_millis(500));
    let queue = queue.build(client.clone()).await.unwrap();
    store(&queue, 20).await;
    let hangs = service_fn(|_: Bytes| std::future::pending::<Result<(), Infallible>>());
    let worker = queue.worker(Raw::new()).leveler(leveler(4)).service(hangs);
    let handle = worker.handle();
    let working = tokio::spawn(worker.run_until(std::future::pending()));
    until("in hand", || handle.stats().in_hand == 5).await;
    working.abort();
    let done = Done::default();
    let worker = queue.worker(Raw::new()).leveler(leveler(4)).service(service_fn(marks(&done)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("all done", || done.len() == 20).await;
    until("all acked", || handle.stats().acked >= 20).await;
    assert!(drain(&handle).await.stats.balances());
}

#[tokio::test]
async fn a_worker_holds_no_more_than_its_limit_and_prefetch_while_the_limit_changes() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    store(&queue, MANY).await;
    let gate = Arc::new(Semaphore::new(0));
    let inner_gate = Arc::clone(&gate);
    let inner = service_fn(move |_: Bytes| {
        let gate = Arc::clone(&inner_gate);
        async move { gate.acquire().await.map(|permit| permit.forget()) }
    });
    let layer = leveler(8);
    let leveler = layer.handle();
    let worker = queue.worker(Raw::new()).leveler(layer).prefetch(4).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("full hands", || handle.stats().in_hand == 12).await;
    assert_eq!(ack_pending(&client, "orders").await, 12);
    assert_eq!(handle.stats().asked_for, 0);
    leveler.set_limit(2).unwrap();
    // While more is in hand than 2 + 4, nothing is asked for.
    let asked = handle.stats().pulls;
    gate.add_permits(6);
    until("six done", || handle.stats().acked == 6).await;
    assert_eq!((handle.stats().in_hand, handle.stats().pulls), (6, asked));
    gate.add_permits(2);
    until("eight done, two more taken", || {
        handle.stats().acked == 8 && handle.stats().in_hand == 6
    })
    .await;
    leveler.set_limit(16).unwrap();
    until("full hands again", || handle.stats().in_hand == 20).await;
    assert_eq!(handle.stats().most_in_hand, 20);
    assert_eq!(ack_pending(&client, "orders").await, 20);
}

#[tokio::test]
async fn a_slow_worker_leaves_the_work_to_a_fast_one() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    store(&queue, MANY).await;
    let slow = service_fn(|_: Bytes| std::future::pending::<Result<(), Infallible>>());
    let slow = queue.worker(Raw::new()).leveler(leveler(2)).prefetch(0).service(slow);
    let slow_handle = slow.handle();
    tokio::spawn(slow.run_until(std::future::pending()));
    until("the slow one is busy", || slow_handle.stats().in_hand == 2).await;
    let done = Done::default();
    let fast = queue.worker(Raw::new()).leveler(leveler(4)).service(service_fn(marks(&done)));
    tokio::spawn(fast.run_until(std::future::pending()));
    until("the fast one does the rest", || done.len() == MANY - 2).await;
    assert_eq!(slow_handle.stats().in_hand, 2);
}

#[tokio::test]
async fn calls_longer_than_ack_wait_are_not_done_twice() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").ack_wait(Duration::from_secs(2));
    let queue = queue.build(broker.connect().await).await.unwrap();
    store(&queue, 6).await;
    let done = Done::default();
    let inner_done = done.clone();
    // Real time passes in the broker.
    let inner = service_fn(move |request: Bytes| {
        let done = inner_done.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            done.add(&request);
            Ok::<_, Infallible>(())
        }
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(3)).prefetch(3).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("all done", || handle.stats().acked == 6).await;
    assert_eq!((done.len(), done.repeated()), (6, 0));
    assert!(handle.stats().progress > 0);
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_buried_with_its_cause_and_nothing_else_is() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    store(&queue, 100).await;
    let (attempts, done) = (Done::default(), Done::default());
    let (inner_attempts, inner_done) = (attempts.clone(), done.clone());
    let inner = service_fn(move |request: Bytes| {
        inner_attempts.add(&request);
        let poisoned = request.ends_with(b"7");
        if !poisoned {
            inner_done.add(&request);
        }
        std::future::ready(if poisoned { Err(BoxError::from("poison")) } else { Ok(()) })
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(8)).max_attempts(3);
    let worker = worker.backoff(Duration::from_millis(20), Duration::from_secs(1)).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("all settled", || handle.stats().acked == 90 && handle.stats().buried == 10).await;
    let report = drain(&handle).await;
    assert!(report.stats.balances(), "{}", report.stats);
    assert_eq!(done.len(), 90);
    assert!((0..10).all(|tens| attempts.times(&format!("{}", 10 * tens + 7)) <= 3));
    assert_eq!(report.stats.naked + report.stats.requeued, 20);
    until_async("none left", || async { state(&client, "orders").await.messages == 0 }).await;
    let context = async_nats::jetstream::new(client);
    let dead = context.get_stream("orders-dead").await.unwrap();
    assert_eq!(dead.cached_info().state.messages, 10);
    let letter = dead.get_raw_message(1).await.unwrap();
    let header = |name: &str| letter.headers.get(name).map(ToString::to_string);
    assert_eq!(header("Load-Level-Cause").as_deref(), Some("poison"));
    assert_eq!(header("Load-Level-Attempt").as_deref(), Some("3"));
    assert!(header("Load-Level-Origin").is_some_and(|origin| origin.starts_with("orders:")));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_buried_without_a_call() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    store(&queue, 3).await;
    queue.producer(Raw::new()).store(Bytes::from("no number")).await.unwrap();
    let numbers = tower_load_leveling_jetstream::Json::<u64>::new();
    let inner = service_fn(|_: u64| std::future::ready(Ok::<_, Infallible>(())));
    let worker = queue.worker(numbers).leveler(leveler(2)).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("settled", || handle.stats().acked == 3 && handle.stats().buried == 1).await;
    assert_eq!(state(&client, "orders-dead").await.messages, 1);
}

#[tokio::test]
async fn what_kills_its_workers_is_buried_uncalled_after_so_many_deliveries() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(Duration::from_millis(300));
    let queue = queue.build(client.clone()).await.unwrap();
    store(&queue, 1).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let worker = || {
        let calls = Arc::clone(&calls);
        let inner = service_fn(move |_: Bytes| {
            calls.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<(), Infallible>>()
        });
        let worker = queue.worker(Raw::new()).leveler(leveler(1));
        worker.max_attempts(2).max_deliveries(3).service(inner)
    };
    for nth in 1..=3 {
        let working = tokio::spawn(worker().run_until(std::future::pending()));
        until("called", || calls.load(Ordering::SeqCst) == nth).await;
        working.abort();
    }
    let last = worker();
    let handle = last.handle();
    tokio::spawn(last.run_until(std::future::pending()));
    until("buried", || handle.stats().buried == 1).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(state(&client, "orders-dead").await.messages, 1);
}

#[tokio::test]
async fn if_burying_fails_the_message_stays() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let context = async_nats::jetstream::new(client.clone());
    let dead = async_nats::jetstream::stream::Config {
        name: "orders-dead".to_owned(),
        subjects: vec!["orders-dead.>".to_owned()],
        max_messages: 1,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        ..Default::default()
    };
    context.create_stream(dead).await.unwrap();
    store(&queue, 2).await;
    let inner = service_fn(|_: Bytes| std::future::ready(Err::<(), _>(BoxError::from("poison"))));
    let worker = queue.worker(Raw::new()).leveler(leveler(2)).max_attempts(1);
    let worker = worker.backoff(Duration::from_millis(10), Duration::from_millis(100));
    let worker = worker.max_deliveries(1000).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("tried again", || handle.stats().naked >= 3).await;
    assert_eq!(handle.stats().buried, 1);
    assert_eq!(state(&client, "orders").await.messages, 1);
}

#[tokio::test]
async fn overload_buries_nothing() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    store(&queue, 1).await;
    // Another user of the leveler holds its slot, so that the request is removed late each time.
    let layer = LoadLevelLayer::builder().capacity(8).concurrency(1);
    let layer = layer.max_wait(Duration::from_millis(5)).build().unwrap();
    let mut other = tower::Layer::layer(
        &layer,
        service_fn(|(): ()| std::future::pending::<Result<(), Infallible>>()),
    );
    let held = tokio::spawn(tower::Service::call(&mut other, ()));
    until("held", || layer.handle().stats().in_flight == 1).await;
    let done = Done::default();
    let worker = queue.worker(Raw::new()).leveler(layer).max_attempts(1).max_deliveries(1);
    let worker = worker.service(service_fn(marks(&done)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("removed often", || handle.stats().requeued >= 2).await;
    held.abort();
    until("done", || done.len() == 1).await;
    assert_eq!(handle.stats().buried, 0);
    assert_eq!(state(&client, "orders-dead").await.messages, 0);
}

#[tokio::test]
async fn parked_retries_do_not_stop_what_is_fresh() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").fleet_limit(10);
    let queue = queue.build(broker.connect().await).await.unwrap();
    // The first twenty fail, and wait a minute for their next attempt.
    store(&queue, 60).await;
    let (done, failed) = (Done::default(), Arc::new(AtomicUsize::new(0)));
    let (inner_done, inner_failed) = (done.clone(), Arc::clone(&failed));
    let inner = service_fn(move |request: Bytes| {
        let failing = inner_failed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |failed| {
            (failed < 20).then_some(failed + 1)
        });
        if failing.is_err() {
            inner_done.add(&request);
        }
        std::future::ready(if failing.is_ok() { Err(BoxError::from("later")) } else { Ok(()) })
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(8)).prefetch(2);
    let minute = Duration::from_secs(60);
    let worker = worker.backoff(minute, minute).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("the fresh ones are done", || done.len() == 40).await;
    assert!(handle.stats().requeued > 0);
}

#[tokio::test]
async fn a_drain_gives_back_what_waits_and_finishes_what_runs() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(Duration::from_secs(600));
    let queue = queue.build(client.clone()).await.unwrap();
    store(&queue, 20).await;
    let gate = Arc::new(Semaphore::new(0));
    let inner_gate = Arc::clone(&gate);
    let inner = service_fn(move |_: Bytes| {
        let gate = Arc::clone(&inner_gate);
        async move { gate.acquire().await.map(|permit| permit.forget()) }
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(4)).prefetch(4).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("full hands", || handle.stats().in_hand == 8).await;
    let draining = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(LONG).await.expect("a report") }
    });
    until("given back", || handle.stats().naked == 4).await;
    gate.add_permits(4);
    let report = draining.await.unwrap();
    assert!(report.drained && report.stats.balances(), "{}", report.stats);
    assert_eq!((report.stats.acked, report.stats.naked), (4, 4));
    until_async("16 are left", || async { state(&client, "orders").await.messages == 16 }).await;
    // At once: nobody has to wait for `ack_wait`, which is ten minutes here.
    let done = Done::default();
    let worker = queue.worker(Raw::new()).leveler(leveler(4)).service(service_fn(marks(&done)));
    tokio::spawn(worker.run_until(std::future::pending()));
    until("the others are done", || done.len() == 16).await;
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_and_leaves_what_runs_to_others() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    store(&queue, 2).await;
    let hangs = service_fn(|_: Bytes| std::future::pending::<Result<(), Infallible>>());
    let worker = queue.worker(Raw::new()).leveler(leveler(2)).service(hangs);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("both run", || handle.stats().in_hand == 2).await;
    let report = handle.drain(Duration::from_millis(50)).await.expect("a report");
    assert!(!report.drained);
    assert_eq!(report.stats.in_hand, 2);
    assert!(report.stats.balances());
}

#[tokio::test]
async fn rolling_restarts_under_load_lose_nothing_and_do_nothing_twice() {
    let broker = Broker::start().await.unwrap();
    let (queue, done) = (queue(&broker).await, Done::default());
    let filling = tokio::spawn({
        let queue = queue.clone();
        async move { store(&queue, 2000).await }
    });
    for _ in 0..6 {
        let inner_done = done.clone();
        let inner = service_fn(move |request: Bytes| {
            let done = inner_done.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                done.add(&request);
                Ok::<_, Infallible>(())
            }
        });
        let worker = queue.worker(Raw::new()).leveler(leveler(8)).prefetch(8).service(inner);
        let (handle, before) = (worker.handle(), done.len());
        tokio::spawn(worker.run_until(std::future::pending()));
        until("some are done", || done.len() >= (before + 200).min(2000)).await;
        assert!(drain(&handle).await.drained);
    }
    filling.await.unwrap();
    let worker = queue.worker(Raw::new()).leveler(leveler(8)).service(service_fn(marks(&done)));
    tokio::spawn(worker.run_until(std::future::pending()));
    until("all done", || done.len() == 2000).await;
    assert_eq!(done.repeated(), 0);
}

#[tokio::test]
async fn the_limit_of_the_fleet_is_exact_over_all_workers() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").fleet_limit(6).build(client.clone()).await.unwrap();
    store(&queue, 40).await;
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let hangs = service_fn(|_: Bytes| std::future::pending::<Result<(), Infallible>>());
            let worker = queue.worker(Raw::new()).leveler(leveler(4)).service(hangs);
            let handle = worker.handle();
            tokio::spawn(worker.run_until(std::future::pending()));
            handle
        })
        .collect();
    let in_hand = || busy.iter().map(|worker| worker.stats().in_hand).sum::<u64>();
    until("six in hand", || in_hand() == 6).await;
    until_async("six are out", || async { ack_pending(&client, "orders").await == 6 }).await;
    assert_eq!(in_hand(), 6);
}

#[tokio::test]
async fn a_fleet_limit_of_one_keeps_the_order_across_workers_and_retries() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").fleet_limit(1);
    let queue = queue.build(broker.connect().await).await.unwrap();
    let producer = queue.producer(Raw::new());
    for nth in 0..30_u32 {
        producer.store(Bytes::from(nth.to_string())).await.unwrap();
    }
    let (tried, done) = (Done::default(), Arc::new(Mutex::new(Vec::new())));
    for _ in 0..2 {
        let (tried, done) = (tried.clone(), Arc::clone(&done));
        let inner = service_fn(move |request: Bytes| {
            tried.add(&request);
            let number: u32 = std::str::from_utf8(&request).unwrap().parse().unwrap();
            let fails = number.is_multiple_of(5) && tried.times(&number.to_string()) < 3;
            if !fails {
                done.lock().unwrap().push(number);
            }
            std::future::ready(if fails { Err(BoxError::from("not yet")) } else { Ok(()) })
        });
        let worker = queue.worker(Raw::new()).leveler(leveler(4));
        let worker = worker.backoff(Duration::from_millis(5), Duration::from_millis(20));
        tokio::spawn(worker.service(inner).run_until(std::future::pending()));
    }
    until("all done", || done.lock().unwrap().len() == 30).await;
    assert_eq!(*done.lock().unwrap(), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_panic_of_the_inner_is_a_failed_attempt_of_its_own_message_only() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    store(&queue, 10).await;
    let inner = service_fn(|request: Bytes| async move {
        assert!(request != "3", "three");
        Ok::<_, Infallible>(())
    });
    let worker = queue.worker(Raw::new()).leveler(leveler(2)).max_attempts(1).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("settled", || handle.stats().acked == 9 && handle.stats().buried == 1).await;
}

#[tokio::test]
async fn the_judge_decides_and_sees_the_delivery() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    store(&queue, 4).await;
    let inner = service_fn(|delivery: Delivery| {
        std::future::ready(Ok::<_, Infallible>(delivery.payload().clone()))
    });
    let worker = queue.worker(AsDelivered::new()).leveler(leveler(2)).confirm(Confirm::Confirmed);
    let judge = |delivery: &Delivery, result: Result<&Bytes, &BoxError>| match (
        result.map(|bytes| &**bytes),
        delivery.attempt(),
    ) {
        (Ok(b"1"), _) => Verdict::Bury,
        (Ok(b"2"), 1) => Verdict::Retry { after: Some(Duration::from_millis(10)) },
        _ => Verdict::Ack,
    };
    let worker = worker.judge(judge).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("settled", || handle.stats().acked == 3).await;
    assert_eq!((handle.stats().buried, handle.stats().naked), (1, 1));
}

#[tokio::test]
async fn a_paused_worker_starts_nothing_until_resumed() {
    let broker = Broker::start().await.unwrap();
    let (queue, done) = (queue(&broker).await, Done::default());
    let worker = queue.worker(Raw::new()).leveler(leveler(2)).service(service_fn(marks(&done)));
    let handle = worker.handle();
    handle.pause();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("connected", || handle.stats().generations == 1).await;
    store(&queue, 5).await;
    assert_eq!(done.len(), 0);
    handle.resume();
    until("done", || done.len() == 5).await;
}

#[tokio::test]
async fn messages_that_the_leveler_has_no_place_for_stay_in_hand() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    store(&queue, 3).await;
    let layer = LoadLevelLayer::builder().capacity(0).concurrency(1);
    let layer = layer.overflow(Overflow::Reject).build().unwrap();
    let mut other = tower::Layer::layer(
        &layer,
        service_fn(|(): ()| std::future::pending::<Result<(), Infallible>>()),
    );
    let held = tokio::spawn(tower::Service::call(&mut other, ()));
    until("held", || layer.handle().stats().in_flight == 1).await;
    let done = Done::default();
    let worker = queue.worker(Raw::new()).leveler(layer).service(service_fn(marks(&done)));
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("in hand", || handle.stats().in_hand == 2).await;
    assert_eq!(handle.stats().naked, 0);
    held.abort();
    until("done", || done.len() == 3).await;
    assert_eq!(handle.stats().naked, 0);
}
