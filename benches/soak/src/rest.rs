//! What has to be so once all callers have gone.

use std::{sync::Arc, sync::atomic::Ordering::SeqCst, time::Duration};

use futures::{FutureExt, future::join_all};
use tower_load_leveling::{Class, Overflow, Priority, error::Reason};

use crate::{
    inner::{Request, Task},
    world::World,
};

/// Checks the books, and that nothing is left (laws 5, 6 and 12).
pub(crate) fn check(world: &World) {
    let (handle, seen) = (&world.handle, &world.seen);
    let is_at_rest = || {
        let stats = handle.stats();
        (stats.queued, stats.in_flight, stats.bypassing) == (0, 0, 0)
    };
    if !world.wait_until("laws 1 and 6: it does not come to rest", is_at_rest) {
        return;
    }
    world.wait_until("law 16: `idle` does not notice", || handle.idle().now_or_never().is_some());
    let stats = handle.stats();
    let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
    if stats.admitted != ended + stats.removed.total() {
        world.fault("law 12: the books do not balance");
    }
    if seen.running() != 0 {
        world.fault(&format!("law 6: {} still run in the inner", seen.running()));
    }
    world.wait_until("law 5: a request is kept", || seen.requests.load(SeqCst) == 0);
    let (calls, successes) = (world.calls.load(SeqCst), world.successes.load(SeqCst));
    let bypassed = seen.bypassed.load(SeqCst);
    let known = stats.admitted + stats.refused.total();
    // A bypassing request is in neither count, or in the first if its inner was not ready.
    if !world.plan.has_rough_subscriber && !(known..=known + bypassed).contains(&calls) {
        world.fault(&format!("law 12: {calls} calls were made, of which {bypassed} bypassed"));
    }
    if successes > stats.succeeded + bypassed {
        world.fault(&format!("law 12: {successes} have succeeded"));
    }
}

/// Uses the leveler again: all places and all slots are free (laws 2, 3 and 9).
pub(crate) fn use_again(world: &Arc<World>) {
    let handle = &world.handle;
    handle.set_max_wait(None);
    let (limit, capacity) = (handle.limit(), handle.stats().capacity);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut service = world.services[0].clone();
        let mut call = || {
            let class = Class::new().priority(Priority::Critical);
            world.calls.fetch_add(1, SeqCst);
            let request = Request::new(&world.seen, Task::Gated, class);
            service.try_call(request).map_err(|refused| refused.rejected().reason())
        };
        // In one go, without a yield between them.
        let mut calls = Vec::new();
        for nth in 0..capacity + limit {
            match call() {
                Ok(call) => calls.push(call),
                Err(reason) => {
                    world
                        .fault(&format!("law 3: call {nth} of {capacity} + {limit} is {reason:?}"));
                    break;
                }
            }
        }
        if world.plan.overflow != Overflow::EvictOldest {
            match call() {
                Err(Reason::Full) => {}
                Err(reason) => {
                    world.fault(&format!("law 3: the call beyond the bound is {reason:?}"));
                }
                Ok(_) => world.fault("law 3: a call beyond the bound is admitted"),
            }
        }
        // Those that fit run, and no more.
        let count = limit.min(calls.len());
        let runs = async {
            while world.seen.running() != count && !world.plan.is_adaptive {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), runs).await.is_err() {
            world.fault(&format!("law 2: {} run, not {count}", world.seen.running()));
        }
        world.seen.gate.close();
        // All at once: under `Execution::Caller` a call that is not polled keeps its slot.
        let ends = tokio::time::timeout(Duration::from_secs(30), join_all(calls)).await;
        match ends.map(|ends| ends.into_iter().find_map(Result::err)) {
            Ok(None) => {}
            Ok(Some(error)) => world.fault(&format!("law 1: a call fails at rest: {error}")),
            Err(_) => world.fault("law 1: a call hangs at rest"),
        }
    });
}
