//! What a call does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

#[derive(Clone, Debug)]
pub(crate) enum Work {
    Nothing,
    Sleep(Duration),
    Fragile(Arc<Fragile>),
}

/// Slower for all calls, the more there are above the knee: by the power of 1.7.
#[derive(Debug)]
pub(crate) struct Fragile {
    knee: usize,
    time: Duration,
    running: AtomicUsize,
}

impl Fragile {
    pub(crate) fn new(knee: usize, time: Duration) -> Self {
        Self { knee, time, running: AtomicUsize::new(0) }
    }
}

impl Work {
    pub(crate) async fn work(self) {
        match self {
            Self::Nothing => {}
            Self::Sleep(time) => tokio::time::sleep(time).await,
            Self::Fragile(inner) => {
                let running = inner.running.fetch_add(1, SeqCst) + 1;
                let over = (running as f64 / inner.knee as f64).max(1.0);
                tokio::time::sleep(inner.time.mul_f64(over.powf(1.7))).await;
                inner.running.fetch_sub(1, SeqCst);
            }
        }
    }
}
