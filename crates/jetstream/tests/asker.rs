//! Law J17, on a real broker.

mod support;

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Semaphore;
use tower::{BoxError, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevelLayer, error::Rejected};
use tower_load_leveling_jetstream::{Asker, Error, Json, Late, Queue, Raw, Verdict, WorkerHandle};

use support::{Broker, Done, LONG, state, store, until, until_async};

const MS: Duration = Duration::from_millis(1);

async fn queue(broker: &Broker) -> Queue {
    Queue::builder("orders").build(broker.connect().await).await.unwrap()
}

fn by_text(request: &Bytes) -> String {
    String::from_utf8_lossy(request).into_owned()
}

fn asker(queue: &Queue) -> Asker<Bytes, Raw, Raw> {
    queue.asker(Raw::new(), Raw::new()).timeout(LONG)
}

/// How many messages a connection has got. One more after a request is the receipt for it, or its
/// answer: the broker knows then where to send the answer.
fn heard(client: &async_nats::Client) -> u64 {
    client.statistics().in_messages.load(SeqCst)
}

/// An inner that answers with what it was asked, in capitals.
fn shouts(
    done: &Done,
) -> impl Fn(Bytes) -> std::future::Ready<Result<Bytes, Infallible>> + Clone + use<> {
    let done = done.clone();
    move |request| {
        done.add(&request);
        std::future::ready(Ok(request.to_ascii_uppercase().into()))
    }
}

/// A worker that answers.
fn work<F, R, E>(queue: &Queue, inner: F) -> (WorkerHandle, tokio::task::JoinHandle<()>)
where
    F: FnMut(Bytes) -> R + Send + 'static,
    R: Future<Output = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(16, 4)).max_attempts(3);
    let worker = worker.backoff(MS, 10 * MS).answers(Raw::new()).service(service_fn(inner));
    let handle = worker.handle();
    let working = tokio::spawn(async move {
        worker.run_until(std::future::pending()).await.unwrap();
    });
    (handle, working)
}

#[tokio::test]
async fn each_of_many_askers_gets_its_own_answer() {
    let broker = Broker::start().await.unwrap();
    let (queue, done) = (queue(&broker).await, Done::default());
    let (handle, _) = work(&queue, shouts(&done));
    let asking = (0..200).map(|nth| {
        let asker = asker(&queue);
        async move { (nth, asker.oneshot(Bytes::from(format!("order {nth}"))).await.unwrap()) }
    });
    for (nth, answer) in futures::future::join_all(asking).await {
        assert_eq!(answer, format!("ORDER {nth}"));
    }
    assert_eq!((done.len(), done.repeated()), (200, 0));
    until("all acked", || handle.stats().acked == 200).await;
    assert!(handle.stats().balances());
}

#[tokio::test]
async fn types_of_requests_and_answers_are_inferred_from_their_codecs() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    let inner = service_fn(|n: u64| std::future::ready(Ok::<_, Infallible>(vec![n, 2 * n])));
    let worker = queue.worker(Json::<u64>::new()).leveler(LoadLevelLayer::new(4, 4));
    let worker = worker.answers(Json::<Vec<u64>>::new()).service(inner);
    tokio::spawn(worker.run_until(std::future::pending()));
    let asker = queue.asker(Json::<u64>::new(), Json::<Vec<u64>>::new());
    assert_eq!(asker.oneshot(21).await.unwrap(), [21, 42]);
}

#[tokio::test]
async fn an_answer_leaves_before_its_ack_and_comes_after_the_last_attempt_only() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let inner_calls = Arc::clone(&calls);
    let mut all = client.subscribe(">").await.unwrap();
    let _working = work(&queue, move |request| {
        let fails = inner_calls.fetch_add(1, SeqCst) < 2;
        std::future::ready(if fails { Err(BoxError::from("not yet")) } else { Ok(request) })
    });
    assert_eq!(asker(&queue).ask(Bytes::from("a")).await.unwrap(), "a");
    assert_eq!(calls.load(SeqCst), 3);
    // What one connection sends, another one gets in the same order.
    let (mut naks, mut answers) = (0, 0);
    loop {
        let message = all.next().await.unwrap();
        if message.subject.starts_with("_INBOX.load-level.orders.") {
            answers += 1;
        } else if message.subject.starts_with("$JS.ACK.") {
            naks += usize::from(message.payload.starts_with(b"-NAK"));
            if message.payload.is_empty() {
                break;
            }
        }
    }
    assert_eq!((naks, answers), (2, 1));
    until_async("acked", || async { state(&client, "orders").await.messages == 0 }).await;
}

#[tokio::test]
async fn what_is_buried_is_answered_with_its_cause() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let _working =
        work(&queue, |_| std::future::ready(Err::<Bytes, _>(BoxError::from("poison\r\nful"))));
    let error = asker(&queue).ask(Bytes::from("a")).await.unwrap_err();
    let Some(Error::Failed { cause, .. }) = error.downcast_ref() else { panic!("{error}") };
    assert_eq!(cause, "poison\r\nful");
    let context = async_nats::jetstream::new(client);
    let dead = context.get_stream("orders-dead").await.unwrap();
    let letter = dead.get_raw_message(1).await.unwrap();
    // A letter that is stored again is not dropped as late.
    assert!(letter.headers.iter().all(|(name, _)| !name.to_string().contains("Answer")));
}

#[tokio::test]
async fn a_deadline_without_a_worker_is_unanswered_and_the_worker_then_drops_the_request() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let error = asker(&queue).timeout(500 * MS).ask(Bytes::from("a")).await.unwrap_err();
    assert!(error.downcast_ref::<Rejected>().is_none());
    assert!(matches!(error.downcast_ref(), Some(Error::Unanswered { .. })), "{error}");
    assert_eq!(state(&client, "orders").await.messages, 1);
    let done = Done::default();
    let (handle, _) = work(&queue, shouts(&done));
    until("dropped", || handle.stats().late == 1 && handle.stats().acked == 1).await;
    assert_eq!(done.len(), 0);
    assert!(handle.stats().balances());
    until_async("gone", || async { state(&client, "orders").await.messages == 0 }).await;
}

#[tokio::test]
async fn late_requests_are_done_or_buried_if_the_worker_is_told_so() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    for (late, done_then, buried_then) in [(Late::Call, 1, 0), (Late::Bury, 0, 1)] {
        let asker = asker(&queue).timeout(300 * MS);
        asker.ask(Bytes::from("a")).await.unwrap_err();
        let done = Done::default();
        let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4)).late(late);
        let worker = worker.answers(Raw::new()).service(service_fn(shouts(&done)));
        let handle = worker.handle();
        tokio::spawn(worker.run_until(std::future::pending()));
        until("settled", || handle.stats().acked + handle.stats().buried == 1).await;
        assert_eq!((done.len(), handle.stats().buried), (done_then, buried_then));
        handle.drain(LONG).await.unwrap();
    }
    assert_eq!(state(&client, "orders-dead").await.messages, 1);
}

#[tokio::test]
async fn no_answer_of_the_broker_is_unknown_and_the_same_id_gets_the_answer_later() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let asker = asker(&queue).identify(by_text);
    broker.freeze();
    // Longer than the wait for a receipt, shorter than the client's patience with the connection.
    let error = asker.clone().timeout(3000 * MS).ask(Bytes::from("a")).await.unwrap_err();
    assert!(error.downcast_ref::<Rejected>().is_none());
    assert!(matches!(error.downcast_ref(), Some(Error::Unknown { id, .. }) if id == "a"));
    broker.thaw();
    until_async("stored all the same", || async { state(&client, "orders").await.messages == 1 })
        .await;
    let done = Done::default();
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4)).late(Late::Call);
    let worker = worker.answers(Raw::new()).service(service_fn(shouts(&done)));
    let handle = worker.handle();
    handle.pause();
    tokio::spawn(worker.run_until(std::future::pending()));
    let own = broker.connect().await;
    let queue = Queue::builder("orders").build(own.clone()).await.unwrap();
    let (asker, before) = (self::asker(&queue).identify(by_text), heard(&own));
    let again = tokio::spawn(async move { asker.ask(Bytes::from("a")).await });
    until("asked again", || heard(&own) > before).await;
    handle.resume();
    assert_eq!(again.await.unwrap().unwrap(), "A");
    assert_eq!(done.times("a"), 1);
}

#[tokio::test]
async fn two_who_ask_under_one_id_both_get_the_answer_to_one_message() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = queue(&broker).await;
    let gate = Arc::new(Semaphore::new(0));
    let (inner_gate, done) = (Arc::clone(&gate), Done::default());
    let inner_done = done.clone();
    let _working = work(&queue, move |request: Bytes| {
        let (gate, done) = (Arc::clone(&inner_gate), inner_done.clone());
        async move {
            gate.acquire().await?.forget();
            done.add(&request);
            Ok::<_, BoxError>(request)
        }
    });
    let mut asking = Vec::new();
    // Two processes ask, each by a connection of its own.
    for _ in 0..2 {
        let own = broker.connect().await;
        let queue = Queue::builder("orders").build(own.clone()).await.unwrap();
        let before = heard(&own);
        asking.push(tokio::spawn(asker(&queue).identify(by_text).oneshot(Bytes::from("a"))));
        until("asked", || heard(&own) > before).await;
    }
    assert_eq!(state(&client, "orders").await.messages, 1);
    gate.add_permits(1);
    for answer in asking {
        assert_eq!(answer.await.unwrap().unwrap(), "a");
    }
    assert_eq!(done.times("a"), 1);
}

#[tokio::test]
async fn a_refused_request_is_a_refusal_and_a_broker_that_is_away_is_not() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").capacity(1).build(client.clone()).await.unwrap();
    store(&queue, 1).await;
    let error = asker(&queue).ask(Bytes::from("a")).await.unwrap_err();
    assert!(error.downcast_ref::<Rejected>().is_some(), "{error}");
    broker.kill();
    until("the client notices", || {
        client.connection_state() == async_nats::connection::State::Disconnected
    })
    .await;
    let error = asker(&queue).ask(Bytes::from("a")).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Away)), "{error}");
}

#[tokio::test]
async fn a_dropped_asker_loses_its_answer_and_not_its_request() {
    let broker = Broker::start().await.unwrap();
    let (queue, done) = (queue(&broker).await, Done::default());
    let client = broker.connect().await;
    let asking = tokio::spawn(asker(&queue).oneshot(Bytes::from("a")));
    until_async("stored", || async { state(&client, "orders").await.messages == 1 }).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let (handle, _) = work(&queue, shouts(&done));
    until("done", || handle.stats().acked == 1).await;
    assert_eq!(done.times("a"), 1);
}

#[tokio::test]
async fn a_worker_that_dies_between_work_and_answer_is_made_up_for_by_another() {
    let broker = Broker::start().await.unwrap();
    let queue = Queue::builder("orders").ack_wait(500 * MS);
    let queue = queue.build(broker.connect().await).await.unwrap();
    let worked = Arc::new(AtomicUsize::new(0));
    let inner_worked = Arc::clone(&worked);
    let (_, dies) = work(&queue, move |_| {
        inner_worked.fetch_add(1, SeqCst);
        std::future::pending::<Result<Bytes, Infallible>>()
    });
    let asking = tokio::spawn(asker(&queue).oneshot(Bytes::from("a")));
    until("the work is done", || worked.load(SeqCst) == 1).await;
    dies.abort();
    let _working = work(&queue, shouts(&Done::default()));
    assert_eq!(asking.await.unwrap().unwrap(), "A");
}

#[tokio::test]
async fn a_kill_of_the_broker_while_a_call_runs_leaves_the_asker_its_answer() {
    let mut broker = Broker::start().await.unwrap();
    let own = broker.connect().await;
    let queue = Queue::builder("orders").ack_wait(1000 * MS);
    let queue = queue.build(own.clone()).await.unwrap();
    let elsewhere = Queue::builder("orders").ack_wait(1000 * MS);
    let elsewhere = elsewhere.build(broker.connect().await).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (entered, inner_gate) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&gate));
    let inner_entered = Arc::clone(&entered);
    let (handle, _) = work(&elsewhere, move |request| {
        inner_entered.fetch_add(1, SeqCst);
        let gate = Arc::clone(&inner_gate);
        async move { gate.acquire().await.map(|_| request) }
    });
    let asking = tokio::spawn(asker(&queue).oneshot(Bytes::from("a")));
    until("the call runs", || entered.load(SeqCst) == 1).await;
    broker.restart().await;
    until("the worker is back", || handle.stats().generations == 2).await;
    // A connection subscribes again before it asks anything: the answer finds the asker then.
    until_async("the asker is back", || async {
        own.request("$JS.API.INFO", "".into()).await.is_ok()
    })
    .await;
    gate.add_permits(10);
    assert_eq!(asking.await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_or_read_is_no_failed_attempt() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    let (handle, _) =
        work(&queue, |_| std::future::ready(Ok::<_, Infallible>(Bytes::from(vec![b'x'; 2 << 20]))));
    let error = asker(&queue).ask(Bytes::from("a")).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Answer { .. })), "{error}");
    until("acked", || handle.stats().acked == 1).await;
    handle.drain(LONG).await.unwrap();
    // By a worker that sends no answers.
    let (done, silent) = (Done::default(), queue.worker(Raw::new()));
    let silent = silent.leveler(LoadLevelLayer::new(4, 4)).service(service_fn(shouts(&done)));
    let handle = silent.handle();
    tokio::spawn(silent.run_until(std::future::pending()));
    let error = asker(&queue).ask(Bytes::from("b")).await.unwrap_err();
    let Some(Error::Answer { source, .. }) = error.downcast_ref() else { panic!("{error}") };
    assert!(source.to_string().contains("answers"), "{source}");
    until("acked", || handle.stats().acked == 1).await;
    assert_eq!(done.times("b"), 1);
}

#[tokio::test]
async fn an_error_that_the_judge_acks_is_an_answer() {
    let broker = Broker::start().await.unwrap();
    let queue = queue(&broker).await;
    let inner = service_fn(|_: Bytes| std::future::ready(Err::<Bytes, _>(BoxError::from("no"))));
    let worker = queue.worker(Raw::new()).leveler(LoadLevelLayer::new(4, 4)).answers(Raw::new());
    let worker = worker.judge(|_: &_, _: Result<&Bytes, &BoxError>| Verdict::Ack).service(inner);
    tokio::spawn(worker.run_until(std::future::pending()));
    let error = asker(&queue).ask(Bytes::from("a")).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Failed { cause, .. }) if cause == "no"));
}

#[tokio::test]
async fn a_worker_answers_on_no_subject_that_is_not_an_askers() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let (queue, done) = (queue(&broker).await, Done::default());
    let mut all = client.subscribe("victim.>").await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Load-Level-Answer-To", "victim.subject");
    let context = async_nats::jetstream::new(client.clone());
    context.publish_with_headers("orders.new", headers, "a".into()).await.unwrap().await.unwrap();
    let (handle, _) = work(&queue, shouts(&done));
    until("done", || handle.stats().acked == 1).await;
    // What the worker sent before comes before this.
    handle.drain(LONG).await.unwrap();
    client.publish("victim.end", "".into()).await.unwrap();
    let first = all.next().await.unwrap();
    assert_eq!(&*first.subject, "victim.end");
}
