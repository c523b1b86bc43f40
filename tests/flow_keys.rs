//! Keys of flows that a caller has chosen for what they do in the leveler's tables.

mod support;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use support::builder;
use tokio::time::sleep;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::Class;

/// The last step of SplitMix64, which spreads flows over the cells of a table.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The cells of a flow of normal priority in a sketch of what waits, if no secret were there.
fn cells(key: u64) -> [u64; 2] {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let hash = mix(hasher.finish() ^ 2);
    [hash % 512, (hash >> 32) % 512]
}

const VICTIM: u64 = 7;

/// Returns how many of 150 calls of a victim are served beside a flood of another flow.
async fn served_beside(flood: u64) -> u32 {
    let classify = |key: &u64| Class::new().flow(*key);
    let layer = builder(32, 1).classify_request(classify).build().expect("valid");
    let mut service = layer.layer(tower::service_fn(|_: u64| async {
        sleep(Duration::from_millis(20)).await;
        Ok::<_, BoxError>(())
    }));
    let mut flooding = service.clone();
    let flood = tokio::spawn(async move {
        loop {
            for _ in 0..5 {
                tokio::spawn(flooding.call(flood));
            }
            sleep(Duration::from_millis(1)).await;
        }
    });
    sleep(Duration::from_millis(500)).await;
    let mut served = 0;
    for _ in 0..150 {
        served += u32::from(service.call(VICTIM).await.is_ok());
        sleep(Duration::from_millis(7)).await;
    }
    flood.abort();
    served
}

#[tokio::test(start_paused = true)]
async fn a_flood_with_a_key_that_collides_with_a_victims_hurts_no_more_than_any_other() {
    let _t = support::trace_init();
    let colliding = (VICTIM + 1..).find(|key| cells(*key) == cells(VICTIM)).expect("one in 2^18");
    let beside_any = served_beside(VICTIM + 1).await;
    let beside_colliding = served_beside(colliding).await;
    assert!(beside_any >= 149, "{beside_any} of 150");
    assert!(beside_colliding >= 149, "{beside_colliding} of 150");
}
