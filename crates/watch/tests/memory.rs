//! What a dashboard keeps.

use std::{convert::Infallible, time::Duration};

use tokio::time::sleep;
use tower::{Layer, Service, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, Priority};
use tower_load_leveling_watch::Dashboard;

const MS: Duration = Duration::from_millis(1);

/// Five minutes of calls of all priorities, which take and wait for anything from a millisecond to
/// half a minute.
#[test]
fn five_minutes_of_a_busy_leveler_take_at_most_200_kb() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let layer = LoadLevelLayer::builder()
        .capacity(300)
        .concurrency(100)
        .max_wait(Duration::from_secs(20))
        .request_classifier(|nth: &u64| {
            let priority = Priority::ALL[(*nth % 5) as usize];
            Class::new().priority(priority).flow(nth % 1000)
        })
        .build()
        .expect("valid");
    let busy = async |calls: u64| {
        let slow = service_fn(|nth: u64| async move {
            sleep((1 << (nth % 16)) * MS).await;
            Ok::<_, Infallible>(())
        });
        let mut service = layer.layer(slow);
        for nth in 0..calls {
            drop(tokio::spawn(service.call(nth)));
            sleep(20 * MS).await;
        }
        layer.handle().abort_queued();
        layer.handle().idle().await;
    };
    let page = runtime.block_on(async {
        let page = Dashboard::new().watch(layer.handle());
        busy(15_000).await;
        page
    });
    // The page goes, and nothing else.
    let kept = -allocation_counter::measure(|| drop(page)).bytes_current;
    assert!(kept < 200_000, "{kept} bytes");
    println!("{kept} bytes");
    assert!(kept > 50_000, "{kept} bytes: nothing was kept");
}
