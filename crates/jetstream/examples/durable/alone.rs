//! What one process can do without a broker: the same flood, in front of a queue in memory.

use std::{convert::Infallible, time::Duration};

use tokio::task::JoinSet;
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::LoadLevelLayer;

use crate::{CALL, LIMIT};

/// How many requests come at once.
const FLOOD: u32 = 1000;

pub(crate) async fn show() -> Result<(), BoxError> {
    println!("Meanwhile, the queue of one process, which ends with it:");
    let layer = LoadLevelLayer::new(400, LIMIT);
    let mut service = layer.layer(service_fn(|(): ()| async {
        tokio::time::sleep(CALL).await;
        Ok::<_, Infallible>(())
    }));
    let mut calls = JoinSet::new();
    for _ in 0..FLOOD {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        calls.spawn(service.call(()));
    }
    let (mut done, mut refused) = (0, 0);
    while let Some(ended) = calls.join_next().await {
        match ended? {
            Ok(()) => done += 1,
            Err(_) => refused += 1,
        }
    }
    layer.handle().drain(Duration::from_secs(5)).await;
    println!(
        "of {FLOOD} requests at once, {done} were done, and {refused} were told to come back."
    );
    Ok(())
}
