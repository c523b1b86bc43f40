//! The recipe of docs/beyond.md for apalis, whose workers are tower services. Needs no broker.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use apalis::prelude::{MemoryStorage, TaskSink, WorkerBuilder};
use tower_load_leveling::{Handle, LoadLevelLayer, Overflow};

const JOBS: usize = 200;
const LIMIT: usize = 8;
const CAPACITY: usize = 4;

/// Runs all jobs. Returns the handle, how many were done, and the most at once.
async fn run(overflow: Overflow) -> (Handle, usize, usize) {
    let layer = LoadLevelLayer::builder().capacity(CAPACITY).concurrency(LIMIT).overflow(overflow);
    let layer = layer.build().expect("valid");
    let handle = layer.handle();
    let (now, most, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let job = {
        let (now, most, done) = (now.clone(), most.clone(), done.clone());
        move |_: u32| {
            let (now, most, done) = (now.clone(), most.clone(), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, SeqCst);
                done.fetch_add(1, SeqCst);
                Ok::<_, Infallible>(())
            }
        }
    };
    let mut storage = MemoryStorage::new();
    for number in 0..JOBS as u32 {
        storage.push(number).await.expect("memory");
    }
    let worker = WorkerBuilder::new("jobs").backend(storage).layer(layer).build(job);
    let settled = handle.clone();
    let ended = async move {
        loop {
            let stats = settled.stats();
            let (refused, ended) = (stats.refused.total(), stats.succeeded + stats.failed);
            if refused + ended == JOBS as u64 {
                return Ok::<_, std::io::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), worker.run_until(ended)).await;
    (handle, done.load(SeqCst), most.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn with_overflow_wait_apalis_does_every_job_and_no_more_at_once_than_the_limit() {
    let (handle, done, most) = run(Overflow::Wait).await;
    assert_eq!((done, most), (JOBS, LIMIT));
    assert_eq!(handle.stats().refused.total(), 0);
}

/// So nobody has to find out in production.
#[tokio::test(start_paused = true)]
async fn with_the_default_overflow_apalis_takes_everything_and_most_is_refused() {
    let (handle, done, most) = run(Overflow::default()).await;
    assert_eq!((done, most), (LIMIT + CAPACITY, LIMIT));
    assert_eq!(handle.stats().refused.full, (JOBS - LIMIT - CAPACITY) as u64);
}
