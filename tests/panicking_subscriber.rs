//! A `tracing` subscriber that panics, at each of its calls in turn: whatever it hits, no place and
//! no slot is lost, no caller hangs, and the books balance (laws 1, 2, 3, 12).

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use support::gate::Gate;
use tokio::time::timeout;
use tower::{Layer, Service};
use tower_load_leveling::{Execution, Handle, LoadLevelLayer, limit::Aimd};
use tracing::{Event, Id, Subscriber, info_span};
use tracing_subscriber::{layer::Context, layer::SubscriberExt, util::SubscriberInitExt};

/// Panics once, after so many calls of the subscriber; never at `NEVER`.
#[derive(Clone)]
struct PanicsAfter(Arc<AtomicUsize>);

const NEVER: usize = usize::MAX;

impl PanicsAfter {
    fn count(&self) {
        let left = self.0.load(SeqCst);
        if left != NEVER {
            self.0.store(left.checked_sub(1).unwrap_or(NEVER), SeqCst);
            assert!(left > 0, "as told");
        }
    }

    /// Whether the panic has happened.
    fn has_panicked(&self) -> bool {
        self.0.load(SeqCst) == NEVER
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for PanicsAfter {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.count();
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.count();
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        // A second panic while one unwinds would end the process, whoever's it is.
        if !std::thread::panicking() {
            self.count();
        }
    }
}

fn layer(execution: Execution, adaptive: bool) -> LoadLevelLayer {
    let builder = LoadLevelLayer::builder().capacity(4).execution(execution);
    let builder = match adaptive {
        true => builder.adaptive(Aimd::new().initial(1)),
        false => builder.concurrency(1),
    };
    builder.build().expect("valid")
}

fn assert_nothing_is_held(handle: &Handle, when: &str) {
    let stats = handle.stats();
    let held = (stats.queued, stats.in_flight, stats.slots_taken);
    assert_eq!(held, (0, 0, 0), "{when}: {stats}");
    let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
    assert_eq!(stats.admitted, ended + stats.removed.total(), "{when}: {stats}");
}

#[tokio::test(start_paused = true)]
async fn wherever_a_subscriber_panics_nothing_is_lost() {
    for execution in [Execution::Caller, Execution::Spawn] {
        let cases = (0..8).map(|bits| [1, 2, 4].map(|bit| bits & bit != 0));
        // `warm`: the drain task has started before.
        for [queued, adaptive, warm] in cases {
            let mut nth = 0;
            loop {
                let when = format!("{execution:?}, queued: {queued}, warm: {warm}, panic {nth}");
                let panics = PanicsAfter(Arc::new(AtomicUsize::new(NEVER)));
                let all = tracing_subscriber::registry().with(panics.clone());
                let _guard = all.set_default();
                let layer = layer(execution, adaptive);
                let handle = layer.handle();
                let mut service = layer.layer(Gate::open().service());
                if warm {
                    service.call(0).await.expect("answered");
                }
                if queued {
                    handle.pause();
                }
                panics.0.store(nth, SeqCst);
                let mut call = None;
                // Not as the value of `in_scope`: what a scope returns is leaked if leaving it
                // panics.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    info_span!("caller").in_scope(|| call = Some(service.call(1)));
                }));
                let _ = catch_unwind(AssertUnwindSafe(|| handle.resume()));
                if let Some(call) = call {
                    let answered = tokio::spawn(timeout(Duration::from_secs(60), call)).await;
                    if let Ok(answered) = answered {
                        assert!(answered.is_ok(), "{when}: law 1, it hangs");
                    }
                }
                support::settle().await;
                let done = !panics.has_panicked();
                panics.0.store(NEVER, SeqCst);
                assert_nothing_is_held(&handle, &when);
                let next = timeout(Duration::from_secs(60), service.call(2)).await;
                assert_eq!(next.expect("law 1").expect("answered"), 2, "{when}");
                support::settle().await;
                assert_nothing_is_held(&handle, &when);
                if done {
                    assert!(nth > 3, "{when}: nothing was said");
                    break;
                }
                nth += 1;
            }
        }
    }
}

/// The work of a call. Takes note if it is dropped when its slot is free already.
struct Work {
    handle: Handle,
    outlived: Arc<AtomicUsize>,
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.handle.stats().slots_taken == 0 {
            self.outlived.fetch_add(1, SeqCst);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_a_subscriber_panics_no_work_outlives_its_slot() {
    for execution in [Execution::Caller, Execution::Spawn] {
        for [queued, given_up] in (0..4).map(|bits| [1, 2].map(|bit| bits & bit != 0)) {
            for nth in 0..40 {
                let panics = PanicsAfter(Arc::new(AtomicUsize::new(NEVER)));
                let all = tracing_subscriber::registry().with(panics.clone());
                let _guard = all.set_default();
                let layer = layer(execution, false);
                let handle = layer.handle();
                let outlived = Arc::new(AtomicUsize::new(0));
                let (to, of) = (Arc::clone(&outlived), handle.clone());
                let mut service = layer.layer(tower::service_fn(move |()| {
                    let work = Work { handle: of.clone(), outlived: Arc::clone(&to) };
                    async move {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        drop(work);
                        Ok::<_, std::convert::Infallible>(())
                    }
                }));
                if queued {
                    handle.pause();
                }
                panics.0.store(nth, SeqCst);
                let mut call = None;
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    info_span!("caller").in_scope(|| call = Some(service.call(())));
                }));
                let _ = catch_unwind(AssertUnwindSafe(|| handle.resume()));
                let until = Duration::from_millis(if given_up { 10 } else { 60_000 });
                if let Some(call) = call {
                    let _ = tokio::spawn(timeout(until, call)).await;
                }
                support::settle().await;
                panics.0.store(NEVER, SeqCst);
                let when = format!("{execution:?}, queued: {queued}, given up: {given_up}, {nth}");
                assert_eq!(outlived.load(SeqCst), 0, "{when}: law 2");
                assert_nothing_is_held(&handle, &when);
            }
        }
    }
}
