//! What a layer takes, and what comes of it.

use std::hint::black_box;

use tokio::runtime::Runtime;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_load_leveling::{Execution, LoadLevelLayer};

use crate::{
    heap::{kept, row},
    setup::{CAPACITY, LIMIT, buffer, leveler, ready, runtime},
};

pub(crate) fn print(many: usize) {
    println!("a layer with a service, on the heap");
    let (ours, theirs) = (ours(many), theirs(many));
    for (nth, what) in STAGES.iter().enumerate() {
        row(&what.replace("{}", &many.to_string()), ours[nth], theirs[nth], "");
    }
    once();
}

/// All that there is from the beginning on, each time.
const STAGES: [&str; 4] =
    ["made", "… and called once", "… after a burst of {}", "… and one call more"];

fn ours(many: usize) -> [f64; 4] {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut made = None;
    let mut bytes = [0; 4];
    bytes[0] = kept(|| {
        let layer = LoadLevelLayer::new(CAPACITY, LIMIT);
        let service = layer.layer(ready::<()>());
        made = Some((layer, service));
    });
    let (layer, mut service) = made.expect("made");
    bytes[1] = kept(|| one_call(&runtime, &mut service));
    bytes[2] = kept(|| {
        let mut calls = Vec::with_capacity(many);
        layer.handle().pause();
        runtime.block_on(async {
            (0..many).for_each(|_| calls.push(service.call(())));
            tokio::task::yield_now().await;
            assert_eq!(layer.handle().stats().queued, many);
            layer.handle().resume();
            for call in calls {
                call.await.expect("served");
            }
            layer.handle().idle().await;
        });
    });
    bytes[3] = kept(|| one_call(&runtime, &mut service));
    sums(bytes)
}

fn theirs(many: usize) -> [Option<f64>; 4] {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut made = None;
    let mut bytes = [0; 4];
    bytes[0] = kept(|| made = Some(buffer(ready::<()>(), CAPACITY, LIMIT)));
    let mut service = made.expect("made");
    bytes[1] = kept(|| one_call(&runtime, &mut service));
    bytes[2] = kept(|| {
        let mut calls = Vec::with_capacity(many);
        runtime.block_on(async {
            for _ in 0..many {
                calls.push(service.ready().await.expect("ready").call(()));
            }
            for call in calls {
                call.await.expect("served");
            }
        });
    });
    bytes[3] = kept(|| one_call(&runtime, &mut service));
    sums(bytes).map(Some)
}

fn one_call<S: Service<(), Error = BoxError>>(runtime: &Runtime, service: &mut S) {
    runtime.block_on(async {
        let call = service.ready().await.expect("ready").call(());
        assert!(call.await.is_ok(), "served");
    });
}

fn sums(bytes: [i64; 4]) -> [f64; 4] {
    let mut sum = 0;
    bytes.map(|bytes| {
        sum += bytes;
        sum as f64
    })
}

/// What axum makes for each connection, and for each request.
fn once() {
    let runtime = runtime();
    let _entered = runtime.enter();
    println!("one more of them, on the heap");
    let layer = leveler(LIMIT, Execution::Spawn);
    let service = layer.layer(ready::<()>());
    let buffered = buffer(ready::<()>(), CAPACITY, LIMIT);
    let one = |make: &mut dyn FnMut()| kept(make) as f64;
    let mut kept_alive = (None, None, None, None);
    let layered = one(&mut || kept_alive.0 = Some(layer.layer(ready::<()>())));
    let theirs = one(&mut || kept_alive.1 = Some(buffer(ready::<()>(), CAPACITY, LIMIT)));
    row("`layer()`", layered, Some(theirs), "");
    let cloned = one(&mut || kept_alive.2 = Some(service.clone()));
    let theirs = one(&mut || kept_alive.3 = Some(buffered.clone()));
    row("a clone of a service", cloned, Some(theirs), "");
    black_box(kept_alive);
}
