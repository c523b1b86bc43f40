//! Laws J11 and J12, on a real broker.

mod support;

use std::time::Duration;

use bytes::Bytes;
use tower::{Service, ServiceExt};
use tower_load_leveling::error::{Reason, Rejected};
use tower_load_leveling_jetstream::{Error, Queue, Raw};

use support::{Broker, state, until};

fn by_text(request: &Bytes) -> String {
    String::from_utf8_lossy(request).into_owned()
}

#[tokio::test]
async fn a_receipt_means_that_the_message_survives_a_kill_of_the_broker() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let mut producer = queue.producer(Raw::new());
    let receipt = producer.ready().await.unwrap().call(Bytes::from("1")).await.unwrap();
    assert!(!receipt.is_duplicate());
    assert_eq!(receipt.sequence(), 1);
    broker.restart().await;
    assert_eq!(state(&broker.connect().await, "orders").await.messages, 1);
}

#[tokio::test]
async fn an_id_that_is_stored_already_is_a_success_and_stores_nothing() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let producer = queue.producer(Raw::new()).identify(by_text);
    let first = producer.store(Bytes::from("a")).await.unwrap();
    let second = producer.store(Bytes::from("a")).await.unwrap();
    assert_eq!((first.id(), first.is_duplicate()), ("a", false));
    assert_eq!((second.id(), second.is_duplicate()), ("a", true));
    assert_eq!(state(&client, "orders").await.messages, 1);
}

#[tokio::test]
async fn a_full_stream_refuses_with_a_time_to_retry_and_the_id_may_be_used_again() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").capacity(2).build(client.clone()).await.unwrap();
    let producer = queue.producer(Raw::new()).identify(by_text);
    producer.store(Bytes::from("a")).await.unwrap();
    producer.store(Bytes::from("b")).await.unwrap();
    let error = producer.store(Bytes::from("c")).await.unwrap_err();
    let rejected = error.downcast_ref::<Rejected>().expect("a rejection");
    assert_eq!(rejected.reason(), Reason::Full);
    assert!(rejected.retry_after().is_some_and(|after| !after.is_zero()));
    assert_eq!(state(&client, "orders").await.messages, 2);
    let context = async_nats::jetstream::new(client);
    context.get_stream("orders").await.unwrap().purge().await.unwrap();
    assert!(!producer.store(Bytes::from("c")).await.unwrap().is_duplicate());
}

#[tokio::test]
async fn a_broker_that_is_away_is_an_error_of_its_own_and_stores_nothing() {
    let mut broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let producer = queue.producer(Raw::new());
    broker.kill();
    until("the client notices", || {
        client.connection_state() == async_nats::connection::State::Disconnected
    })
    .await;
    let error = producer.store(Bytes::from("a")).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Away)), "{error}");
    broker.restart().await;
    assert_eq!(state(&broker.connect().await, "orders").await.messages, 0);
}

#[tokio::test]
async fn no_answer_is_unknown_and_never_a_refusal() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let producer = queue.producer(Raw::new()).identify(by_text);
    broker.freeze();
    let asked = std::time::Instant::now();
    let error = producer.store(Bytes::from("a")).await.unwrap_err();
    // After 2 s. The client has 10 s for an answer.
    assert!(asked.elapsed() < Duration::from_secs(8));
    assert!(error.downcast_ref::<Rejected>().is_none());
    assert!(
        matches!(error.downcast_ref(), Some(Error::Unknown { id, .. }) if id == "a"),
        "{error}"
    );
    broker.thaw();
    // It is stored all the same, and the same id again is safe.
    let again = tokio::time::timeout(support::LONG, async {
        loop {
            match producer.store(Bytes::from("a")).await {
                Ok(receipt) => break receipt,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    again.await.unwrap();
    assert_eq!(state(&client, "orders").await.messages, 1);
}

#[tokio::test]
async fn a_payload_above_the_limit_of_the_broker_is_an_encoding_error() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client).await.unwrap();
    let large = Bytes::from(vec![0; 2 << 20]);
    let error = queue.producer(Raw::new()).store(large).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Encode(_))), "{error}");
}

#[tokio::test]
async fn an_id_that_no_header_can_carry_is_an_encoding_error() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    for id in ["", "a\r\nNats-Rollup: all", "a\n", " a", &"a".repeat(513)] {
        let own = id.to_owned();
        let producer = queue.producer(Raw::new()).identify(move |_: &Bytes| own.clone());
        let error = producer.store(Bytes::from("a")).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::Encode(_))), "{id:?}: {error}");
    }
    assert_eq!(state(&client, "orders").await.messages, 0);
    let producer = queue.producer(Raw::new()).identify(|_: &Bytes| "ü".repeat(256));
    assert_eq!(producer.store(Bytes::from("a")).await.unwrap().id().len(), 512);
}

#[tokio::test]
async fn the_largest_message_that_is_stored_can_be_buried() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    let queue = Queue::builder("orders").build(client.clone()).await.unwrap();
    let producer = queue.producer(Raw::new()).identify(|_: &Bytes| "i".repeat(512));
    let mut size = client.max_payload();
    while let Err(error) = producer.store(Bytes::from(vec![0; size])).await {
        assert!(matches!(error.downcast_ref(), Some(Error::Encode(_))), "{error}");
        size -= 100;
    }
    let inner = tower::service_fn(|_: Bytes| {
        std::future::ready(Err::<(), _>(tower::BoxError::from("ü".repeat(3000))))
    });
    let layer = tower_load_leveling::LoadLevelLayer::new(4, 4);
    let worker = queue.worker(Raw::new()).leveler(layer).max_attempts(1).service(inner);
    let handle = worker.handle();
    tokio::spawn(worker.run_until(std::future::pending()));
    until("buried", || handle.stats().buried == 1).await;
}

#[tokio::test]
async fn an_existing_queue_with_other_settings_is_reported_and_not_changed() {
    let broker = Broker::start().await.unwrap();
    let client = broker.connect().await;
    Queue::builder("orders").capacity(10).build(client.clone()).await.unwrap();
    Queue::builder("orders").capacity(10).build(client.clone()).await.unwrap();
    let error = Queue::builder("orders").capacity(20).fleet_limit(5).build(client.clone()).await;
    let Err(Error::Mismatch(mismatch)) = error else { panic!("{error:?}") };
    assert_eq!(mismatch.differences().len(), 2, "{mismatch}");
    Queue::builder("orders").capacity(10).build(client).await.unwrap();
}
