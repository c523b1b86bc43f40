//! The operator: looks, and turns every knob.

use std::{
    pin::pin,
    task::{Context, Waker},
    thread::sleep,
    time::Duration,
};

use tower::Service;

use crate::{
    inner::{Request, Task},
    rng::Rng,
    world::World,
};

/// Does one thing that a handle can do.
pub(crate) fn act(world: &World, rng: &mut Rng) {
    let (handle, plan) = (&world.handle, &world.plan);
    let limit = 1 + rng.below(plan.highest as u64) as usize;
    match rng.below(16) {
        0 => {
            handle.pause();
            sleep(Duration::from_micros(rng.below(3000)));
            handle.resume();
        }
        1..4 if plan.changes => handle.set_limit(limit).expect("not 0"),
        4 if plan.changes => drop(handle.resume_adaptive()),
        5 if plan.changes => handle.set_capacity(rng.pick(&[0, 1, 5, 100, 3000])),
        6 if plan.changes => {
            let max_wait = rng.pick(&[None, Some(0), Some(1), Some(10)]);
            handle.set_max_wait(max_wait.map(Duration::from_millis));
        }
        7 if plan.changes => handle.set_bypass_limit(rng.below(5) as usize),
        8 if plan.changes => {
            let rate = rng.pick(&[None, Some((20_000, Duration::from_secs(1)))]);
            handle.set_rate(rate).expect("a rate");
        }
        9 => drop(handle.abort_queued()),
        10 => {
            let stats = handle.stats();
            if stats.in_flight > plan.highest {
                world.fault("law 2: more in flight than the limit");
            }
        }
        11 => {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = pin!(handle.changed()).poll(&mut cx);
            let _ = pin!(handle.idle()).poll(&mut cx);
            let _ = (handle.room(), handle.limit(), format!("{handle:?}"));
        }
        // A call from a thread without a runtime.
        12 => {
            let request = Request::new(&world.seen, Task::EndsAtOnce, Default::default());
            let mut service = world.services[0].clone();
            world.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let call = pin!(service.call(request));
            let _ = call.poll(&mut Context::from_waker(Waker::noop()));
        }
        _ => sleep(Duration::from_micros(rng.below(2000))),
    }
}
