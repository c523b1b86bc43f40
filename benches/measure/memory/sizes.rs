//! What is not on the heap, but wherever its owner has it.

use tower::{Layer, Service};
use tower_load_leveling::Execution;

use crate::{
    heap::row,
    setup::{LIMIT, buffer, leveler, ready, runtime},
};

pub(crate) fn print() {
    println!("not on the heap");
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut service = leveler(LIMIT, Execution::Spawn).layer(ready::<()>());
    let mut buffered = buffer(ready::<()>(), 1, LIMIT);
    row("the service", size_of_val(&service) as f64, Some(size_of_val(&buffered) as f64), "");
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(buffered.poll_ready(&mut cx).is_ready(), "nobody else has called");
    let (call, theirs) = (service.call(()), buffered.call(()));
    let note = format!("of which the inner's future takes {}", size_of_val(&ready().call(())));
    row(
        "the future of a call",
        size_of_val(&call) as f64,
        Some(size_of_val(&theirs) as f64),
        &note,
    );
}
