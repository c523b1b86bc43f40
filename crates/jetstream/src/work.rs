//! The events of the task of a worker.

use std::{future::Future, pin::Pin};

use futures::{StreamExt, stream::FuturesUnordered};

use crate::{
    pull::{Generation, Pulled},
    settle::Settled,
};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures of messages until settled.
pub(crate) type Settling = FuturesUnordered<Boxed<(u64, Settled)>>;

/// The frequent events.
pub(crate) enum Work {
    Settled(u64, Settled),
    Pulled(Pulled),
}

/// The next message, settled or new. Cancel safe.
pub(crate) async fn work(
    calls: &mut Settling,
    uncalled: &mut Settling,
    pulls: &mut Option<Generation>,
) -> Work {
    tokio::select! {
        biased;
        Some((sequence, settled)) = calls.next(), if !calls.is_empty() => {
            Work::Settled(sequence, settled)
        }
        Some((sequence, settled)) = uncalled.next(), if !uncalled.is_empty() => {
            Work::Settled(sequence, settled)
        }
        pulled = next(pulls) => Work::Pulled(pulled),
    }
}

/// The next message, or nothing without a generation.
async fn next(pulls: &mut Option<Generation>) -> Pulled {
    match pulls {
        Some(pulls) => pulls.next().await,
        None => std::future::pending().await,
    }
}

/// Runs a future to the end, then forgets the future. Nothing without a future. Cancel safe.
pub(crate) async fn run<T>(future: &mut Option<Boxed<T>>) -> T {
    let Some(running) = future else { return std::future::pending().await };
    let value = running.await;
    *future = None;
    value
}
