//! What it costs to turn a request away, and to call `layer()`, as axum does for each route and
//! connection.

use std::{
    future::poll_fn,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures::FutureExt;
use tokio::runtime::Runtime;
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_load_leveling::{Execution, LoadLevelLayer, error::Rejected};

use crate::{
    bars::Bars,
    contenders::leveler,
    load::{LIMIT, Threads},
    rounds::{Rounds, Scale},
    work::{inner, ready},
};

pub(crate) fn print(scale: Scale, bars: &mut Bars) {
    let runtime = Threads::Current.runtime();
    // Outside of a task there is no budget that runs out.
    let _entered = runtime.enter();
    let (mut ours, _running) = full_leveler(&runtime);
    let (mut theirs, _also_running) = full_load_shed();
    let layer = leveler(LIMIT, Execution::Spawn);
    let inner = inner(false, ready);
    let rounds = Rounds::take(scale.rounds, 4, |nth| match nth {
        0 => time(scale.calls, || refusal(&mut ours)),
        1 => time(scale.calls, || refusal(&mut theirs)),
        2 => time(scale.calls, || drop(black_box(layer.layer(inner.clone())))),
        _ => time(scale.calls, || drop(black_box(Box::new([0_u8; size_of::<Rejected>()])))),
    });
    println!("{:<44}{:>8}", "", "ns");
    println!("{:<44}{:>8.1}", "refusal", rounds.time(0));
    println!("{:<44}{:>8.1}", "refusal of LoadShed + ConcurrencyLimit", rounds.time(1));
    println!("{:<44}{:>8.1}", "a box of the size of our error", rounds.time(3));
    println!("{:<44}{:>8.1}", "`layer()`, and to drop what it returned", rounds.time(2));
    bars.add("refusal ÷ that of LoadShed", rounds.ratio(0, 1), 1.5);
    bars.add("`layer()`, ns", rounds.time(2), 100.0);
}

fn time(times: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    start.elapsed().as_nanos() as f64 / times as f64
}

/// How many calls have ended before.
const ENDED: usize = 16;

/// A service whose only slot is taken, and the call that has taken it.
pub(crate) fn full_leveler(
    runtime: &Runtime,
) -> (impl Service<(), Error = BoxError> + Clone + Send, impl Sized) {
    // Some have ended before, so that there is a time after which to come back.
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = move |()| {
        let ends = calls.fetch_add(1, Relaxed) < ENDED;
        ends_or_not(ends)
    };
    let mut service = LoadLevelLayer::new(0, 1).layer(tower::service_fn(inner));
    for _ in 0..ENDED {
        let call = service.call(());
        runtime.block_on(call).expect("answered");
    }
    let running = service.call(());
    (service, running)
}

fn full_load_shed() -> (impl Service<(), Error = BoxError>, impl Sized) {
    let stack = ServiceBuilder::new().load_shed().concurrency_limit(1);
    let service = stack.service(tower::service_fn(|()| ends_or_not(false)));
    let mut other = service.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(other.poll_ready(&mut cx).is_ready());
    let running = other.call(());
    (service, running)
}

/// Small, since a future of any size is moved, whatever comes of it.
fn ends_or_not(ends: bool) -> impl Future<Output = Result<(), BoxError>> + Send {
    poll_fn(move |_| if ends { Poll::Ready(Ok(())) } else { Poll::Pending })
}

pub(crate) fn refusal<S: Service<(), Error = BoxError>>(service: &mut S) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let answer = service.call(()).now_or_never();
    drop(black_box(answer.expect("at once").err().expect("refused")));
}
