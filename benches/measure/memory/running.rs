//! What a request takes that runs, never having waited.
//!
//! Its inner's future is empty. Under `Spawn` it is in the task, and so on the heap.

use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::Execution::{self, Caller, Spawn};

use crate::{
    heap::{kept_by_each, row},
    setup::{CAPACITY, buffer, leveler, never, runtime},
};

pub(crate) fn print(many: usize) {
    println!("a request that runs, never having waited");
    let theirs = buffered(many);
    for execution in [Spawn, Caller] {
        row(&format!("{execution:?}"), ours(execution, many), Some(theirs), "");
    }
}

fn ours(execution: Execution, many: usize) -> f64 {
    let runtime = runtime();
    let layer = leveler(many, execution);
    let mut service = layer.layer(never::<()>());
    let mut calls = Vec::with_capacity(many);
    let bytes = kept_by_each(many, || {
        runtime.block_on(async {
            (0..many).for_each(|_| calls.push(service.call(())));
            tokio::task::yield_now().await;
        });
    });
    assert_eq!(layer.handle().stats().in_flight, many);
    bytes
}

fn buffered(many: usize) -> f64 {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut service = buffer(never::<()>(), CAPACITY, many);
    let mut calls = Vec::with_capacity(many);
    kept_by_each(many, || {
        runtime.block_on(async {
            for _ in 0..many {
                let ready = service.ready().await.expect("ready");
                calls.push(ready.call(()));
            }
            // The worker gives them to the inner, some at a time.
            for _ in 0..many {
                tokio::task::yield_now().await;
            }
        });
    })
}
