//! Stores numbered messages at a rate, whatever happens to the broker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tower_load_leveling::error::Rejected;
use tower_load_leveling_jetstream::{Error, Queue, Raw};

use crate::Plan;

/// What producers were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) stored: AtomicU64,
    /// The broker was away: nothing was stored.
    pub(crate) away: AtomicU64,
    /// The broker did not answer.
    pub(crate) unknown: AtomicU64,
    /// Of those that were sent again under the same id, had been stored already.
    pub(crate) duplicates: AtomicU64,
}

/// How often messages are sent: so many at once.
const EVERY: Duration = Duration::from_millis(5);

/// Stores what arrives by the plan. Returns how many messages that was, once all are stored.
pub(crate) async fn produce(queue: Queue, plan: Plan, told: Arc<Told>) -> u64 {
    let producer = queue
        .producer(Raw::new())
        .identify(|request: &Bytes| String::from_utf8_lossy(request).into_owned());
    let (mut calls, mut sent, start) = (JoinSet::new(), 0, Instant::now());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < plan.arrivals {
        ticks.tick().await;
        let at = start.elapsed().min(plan.arrivals);
        let flood = 10.0 * at.min(plan.flood).as_secs_f64();
        let rest = 0.5 * at.saturating_sub(plan.flood).as_secs_f64();
        let due = ((flood + rest) * Plan::rate()) as u64;
        for nth in sent..due {
            let (producer, told) = (producer.clone(), Arc::clone(&told));
            calls.spawn(async move {
                loop {
                    match producer.store(Bytes::from(nth.to_string())).await {
                        Ok(receipt) => {
                            told.duplicates.fetch_add(receipt.is_duplicate().into(), Relaxed);
                            told.stored.fetch_add(1, Relaxed);
                            return;
                        }
                        Err(error) => match error.downcast_ref() {
                            Some(Error::Away) => told.away.fetch_add(1, Relaxed),
                            Some(Error::Unknown { .. }) => told.unknown.fetch_add(1, Relaxed),
                            // Full: not with this capacity.
                            _ => error.is::<Rejected>().into(),
                        },
                    };
                    // The same id again, so that it is one message in any case.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
        sent = due;
    }
    while calls.join_next().await.is_some() {}
    sent
}
