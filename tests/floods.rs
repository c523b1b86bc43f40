//! What a flood of one or many flows takes from another flow.
#![cfg(feature = "model")]

mod support;

use std::time::Duration;

use support::builder;
use tokio::time::sleep;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{Builder, Class};

const VICTIM: u64 = 7;

/// What floods beside a victim.
#[derive(Clone, Copy, Debug)]
enum Flood {
    OneFlow,
    /// Each request has a flow of its own.
    InventedFlows,
    Heavy,
}

/// Returns how many of 300 calls of a victim, one each 40 ms, are served beside a flood.
async fn served_beside_a(flood: Flood, builder: Builder) -> u32 {
    let classify = |(flow, cost): &(u64, u32)| Class::new().flow(*flow).cost(*cost);
    let layer = builder.flow_seed(1).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(tower::service_fn(|_: (u64, u32)| async {
        sleep(Duration::from_millis(20)).await;
        Ok::<_, BoxError>(())
    }));
    let mut flooding = service.clone();
    let task = tokio::spawn(async move {
        let mut nth = 0_u64;
        loop {
            for _ in 0..5 {
                nth += 1;
                drop(match flood {
                    Flood::OneFlow => tokio::spawn(flooding.call((1_000, 1))),
                    Flood::InventedFlows => tokio::spawn(flooding.call((1_000 + nth, 1))),
                    Flood::Heavy => tokio::spawn(flooding.call((1_000, 4))),
                });
            }
            sleep(Duration::from_millis(1)).await;
        }
    });
    sleep(Duration::from_millis(500)).await;
    let mut calls = Vec::new();
    for _ in 0..300 {
        calls.push(tokio::spawn(service.call((VICTIM, 1))));
        sleep(Duration::from_millis(40)).await;
    }
    let mut served = 0;
    for call in calls {
        served += u32::from(call.await.is_ok_and(|answer| answer.is_ok()));
    }
    task.abort();
    served
}

#[tokio::test(start_paused = true)]
async fn a_flood_takes_next_to_nothing_from_a_victim_whatever_the_settings() {
    let _t = support::trace_init();
    for (capacity, exact_flows, flow_limit) in [
        (64, 1024, None),
        (64, 1024, Some(4)),
        (64, 1, None),
        (64, 1, Some(4)),
        (1000, 1024, None),
        (1000, 1, None),
        (1000, 1, Some(4)),
    ] {
        for flood in [Flood::OneFlow, Flood::InventedFlows, Flood::Heavy] {
            let builder = builder(capacity, 8).exact_flows(exact_flows);
            let builder = match flow_limit {
                Some(limit) => builder.flow_limit(limit),
                None => builder,
            };
            // Alone the victim has all 300 served.
            let served = served_beside_a(flood, builder).await;
            let case = format!("{flood:?}, {capacity}, {exact_flows}, {flow_limit:?}");
            assert!(served >= 297, "{served} of 300: {case}");
        }
    }
}
