//! A round: runtimes, callers, an operator, and what has to be so in the end.

use std::{
    mem::forget,
    sync::{Arc, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tower_load_leveling::Abandon;

use crate::{
    args::Plant,
    caller::Caller,
    control::act,
    plan::{End, Plan},
    report::{CALLS, ROUNDS, fault, faults},
    rest::{check, use_again},
    rng::Rng,
    subscriber,
    world::World,
};

/// The longest time for a runtime to end.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn play(plan: &Plan, plant: Option<Plant>) {
    let world = World::new(plan, plant);
    let seen = Arc::clone(&world.seen);
    let before = faults();
    play_in(&world);
    CALLS.fetch_add(world.calls.load(SeqCst), SeqCst);
    ROUNDS.fetch_add(1, SeqCst);
    if faults() > before {
        // Whatever hangs would hang again.
        return forget(world);
    }
    drop(world);
    let began = Instant::now();
    while seen.services.load(SeqCst) > 0 {
        if began.elapsed() > Duration::from_secs(30) {
            return fault(plan, "law 15: an inner service outlives everything");
        }
        thread::sleep(Duration::from_micros(100));
    }
    if plant == Some(Plant::Memory) {
        forget(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn play_in(world: &Arc<World>) {
    let plan = &world.plan;
    let many = runtime(plan, Builder::new_multi_thread().worker_threads(2));
    for nth in 0..plan.callers {
        many.spawn(Caller::new(world, ("many", nth)).run());
    }
    let mortal = plan.has_mortal_runtime.then(|| {
        let runtime = runtime(plan, Builder::new_multi_thread().worker_threads(1));
        for nth in 0..2 {
            runtime.spawn(Caller::new(world, ("mortal", nth)).run());
        }
        runtime
    });
    let single = thread::spawn({
        let world = Arc::clone(world);
        move || {
            let runtime = runtime(&world.plan, &mut Builder::new_current_thread());
            runtime.block_on(async {
                let callers = (0..3).map(|nth| Caller::new(&world, ("single", nth)).run());
                futures::future::join_all(callers).await;
            });
        }
    });
    // Work that was abandoned on it would hold its slot by right.
    let has_idle = plan.has_idle_runtime && plan.abandon == Abandon::Cancel;
    let idle = has_idle.then(|| call_and_idle(world));
    operate(world, mortal);
    if plan.end == End::Drop {
        many.shutdown_timeout(PATIENCE);
    } else {
        let has_ended = || world.callers.load(SeqCst) == 0;
        if !world.wait_until("law 1: a call hangs", has_ended) {
            return [many].into_iter().chain(idle).for_each(Runtime::shutdown_background);
        }
        // Not in the background: a drain task that lived there has to be gone before those that
        // come now are promised an answer (law 1).
        many.shutdown_timeout(PATIENCE);
    }
    if !world.wait_until("law 1: a caller hangs", || single.is_finished()) {
        return;
    }
    world.wait_until("law 15: a caller is kept", || world.callers.load(SeqCst) == 0);
    finish(world);
    // Not driven from its first calls to here.
    idle.into_iter().for_each(Runtime::shutdown_background);
}

/// Turns the knobs until the time of the round is over.
fn operate(world: &World, mut mortal: Option<Runtime>) {
    let plan = &world.plan;
    let mut rng = Rng::new((plan.seed, plan.round, "operator"));
    let mut funeral = None;
    let (began, death) = (Instant::now(), plan.time.mul_f64(0.3 + rng.below(6) as f64 / 10.0));
    while began.elapsed() < plan.time {
        act(world, &mut rng);
        if let Some(runtime) = mortal.take_if(|_| began.elapsed() > death) {
            funeral = Some(thread::spawn(|| runtime.shutdown_timeout(PATIENCE)));
        }
    }
    mortal.into_iter().for_each(|runtime| runtime.shutdown_timeout(PATIENCE));
    funeral.into_iter().for_each(|thread| thread.join().expect("it only waits"));
    world.is_over.store(true, SeqCst);
    world.handle.set_rate(None).expect("no rate is one");
    world.handle.resume();
}

fn finish(world: &Arc<World>) {
    let handle = &world.handle;
    match world.plan.end {
        End::Rest => {
            check(world);
            use_again(world);
        }
        End::Close => handle.close(),
        End::Drain => {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            let report = runtime.block_on(handle.drain(Duration::from_millis(20)));
            let _ = (report.finished, report.removed, report.in_flight);
        }
        End::Drop => {}
    }
    check(world);
}

/// A runtime with some calls made on it, all of which have ended or were given up.
fn call_and_idle(world: &Arc<World>) -> Runtime {
    let runtime = runtime(&world.plan, &mut Builder::new_current_thread());
    runtime.block_on(async {
        let mut caller = Caller::new(world, "idle");
        for _ in 0..20 {
            let _ = tokio::time::timeout(Duration::from_millis(2), caller.step()).await;
        }
    });
    runtime
}

fn runtime(plan: &Plan, builder: &mut Builder) -> Runtime {
    if plan.has_rough_subscriber {
        builder.on_thread_start(subscriber::set);
    }
    builder.enable_all().build().expect("a runtime")
}
