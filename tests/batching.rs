//! Batching, as `examples/batching` does it: many waiting requests in one call of the inner.

#[path = "../examples/batching/batcher.rs"]
mod batcher;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use batcher::Batcher;
use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{LoadLevel, LoadLevelLayer};

const BATCH: usize = 8;

type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

/// Doubles numbers, in batches of 10 ms, which it writes down. A batch with a 13 in it fails.
fn doubling() -> (LoadLevel<Batcher<u32, u32>>, Batches) {
    let batches = Batches::default();
    let seen = Arc::clone(&batches);
    let work = move |numbers: Vec<u32>| {
        seen.lock().unwrap().push(numbers.clone());
        async move {
            sleep(Duration::from_millis(10)).await;
            if numbers.contains(&13) {
                return Err("thirteen");
            }
            Ok(numbers.into_iter().map(|number| 2 * number).collect())
        }
    };
    let layer = LoadLevelLayer::builder().capacity(1000).concurrency(2 * BATCH).build().unwrap();
    (layer.layer(Batcher::new(BATCH, work)), batches)
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_go_together_and_each_gets_its_own_answer() {
    let (service, batches) = doubling();
    let start = Instant::now();
    let answers = join_all((100..200).map(|number| service.clone().oneshot(number))).await;
    for (number, answer) in (100..200).zip(answers) {
        assert_eq!(answer.unwrap(), 2 * number);
    }
    let batches = batches.lock().unwrap();
    assert!(batches.len() <= 100 / BATCH + 3, "{batches:?}");
    assert!(batches.iter().all(|batch| batch.len() <= BATCH), "{batches:?}");
    assert!(start.elapsed() <= Duration::from_millis(10 * batches.len() as u64 + 2));
    // In the order of the queue.
    assert!(batches.concat().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_request_alone_waits_for_no_others() {
    let (service, batches) = doubling();
    let start = Instant::now();
    assert_eq!(service.oneshot(7).await.unwrap(), 14);
    assert!(start.elapsed() <= Duration::from_millis(11));
    assert_eq!(*batches.lock().unwrap(), [[7]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_is_in_no_batch() {
    let (mut service, batches) = doubling();
    let running = tokio::spawn(service.call(1));
    sleep(Duration::from_millis(1)).await;
    let (kept, gone) = (tokio::spawn(service.call(2)), tokio::spawn(service.call(3)));
    sleep(Duration::from_millis(1)).await;
    gone.abort();
    assert_eq!(running.await.unwrap().unwrap(), 2);
    assert_eq!(kept.await.unwrap().unwrap(), 4);
    assert_eq!(*batches.lock().unwrap(), [[1], [2]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_tells_each_of_its_callers() {
    let (mut service, _) = doubling();
    let running = tokio::spawn(service.call(1));
    sleep(Duration::from_millis(1)).await;
    let calls = [12, 13, 14].map(|number| service.call(number));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap_err().to_string(), "thirteen");
    }
    assert!(running.await.unwrap().is_ok(), "another batch is not concerned");
    assert_eq!(service.call(5).await.unwrap(), 10);
}
