//! What a leveler keeps of flows that have come and gone, in bytes of the heap.

mod support;

use std::time::Duration;

use allocation_counter::measure;
use futures::future::join_all;
use support::builder;
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{Builder, Class, Execution};

/// Returns the bytes kept at rest after one call each of `flows` flows, in so many bursts a second
/// apart.
fn kept_after(builder: Builder, flows: u64, bursts: u64) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
    let _entered = runtime.enter();
    let classify = |flow: &u64| Class::new().flow(*flow);
    let layer = builder.execution(Execution::Caller).classify_request(classify);
    let layer = layer.build().expect("valid");
    let mut service = layer.layer(service_fn(|_: u64| async {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(())
    }));
    let kept = measure(|| {
        runtime.block_on(async {
            for burst in 0..bursts {
                let of_burst = flows * burst / bursts..flows * (burst + 1) / bursts;
                let calls: Vec<_> = of_burst.map(|flow| service.call(flow)).collect();
                assert!(join_all(calls).await.iter().all(Result::is_ok));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    });
    assert_eq!(layer.handle().stats().admitted, flows);
    kept.bytes_current
}

fn leveler() -> Builder {
    builder(1_000_000, 8)
}

/// The most that a leveler keeps at rest.
const BOUND: i64 = 256 << 10;

#[test]
fn of_a_million_flows_in_one_go_next_to_nothing_is_kept() {
    let kept = kept_after(leveler(), 1_000_000, 1);
    assert!(kept <= BOUND, "{kept} bytes");
}

#[test]
fn of_a_million_flows_in_an_hour_next_to_nothing_is_kept() {
    let kept = kept_after(leveler().flow_limit(2), 1_000_000, 3600);
    assert!(kept <= BOUND, "{kept} bytes");
}

type Kind = (&'static str, fn() -> Builder);

#[test]
fn what_is_kept_of_flows_depends_on_no_setting_but_exact_flows() {
    let kinds: [Kind; 4] = [
        ("flow_limit", || leveler().flow_limit(2)),
        ("exact_flows", || leveler().exact_flows(1)),
        ("both", || leveler().exact_flows(1).flow_limit(2)),
        ("watch_flows", || leveler().watch_flows(64)),
    ];
    for (name, builder) in kinds {
        for bursts in [1, 60] {
            let kept = kept_after(builder(), 50_000, bursts);
            assert!(kept <= BOUND, "{name}, {bursts} bursts: {kept} bytes");
        }
    }
    // New flows have a sixteenth of the exact shares, here 12 500.
    let kept = kept_after(leveler().exact_flows(200_000), 50_000, 1);
    assert!(kept <= BOUND + 12_500 * 180, "{kept} bytes");
}
