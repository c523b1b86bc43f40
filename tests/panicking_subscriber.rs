//! A `tracing` subscriber that panics, at each of its calls in turn: whatever it hits, no place and
//! no slot is lost, no caller hangs, and the books balance (laws 1, 2, 3, 12).

#![allow(clippy::async_yields_async, reason = "a call outlives the runtime that drove it")]

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use support::gate::Gate;
use tokio::time::timeout;
use tower::{Layer, Service};
use tower_load_leveling::{
    Class, Execution, Handle, LoadLevelLayer, error::ServiceError, limit::Aimd,
};
use tracing::{Dispatch, Event, Id, Metadata, Subscriber, info_span, span};
use tracing_core::span::Current;
use tracing_subscriber::{layer::Context, layer::SubscriberExt};

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
    support::scoped::keep_two();
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
                let _guard = support::scoped::subscriber(all);
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
                let _guard = support::scoped::subscriber(all);
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

/// Panics at each event with the message, and at each exit from a span of that name.
struct PanicsAt(&'static str);

impl PanicsAt {
    fn panic_at(&self, found: &str) {
        assert!(std::thread::panicking() || found != self.0, "at: {found}");
    }

    /// Makes it the subscriber of this thread, for all spans and events.
    fn set(at: &'static str) -> tracing::subscriber::DefaultGuard {
        support::scoped::subscriber(tracing_subscriber::registry().with(Self(at)))
    }
}

impl<S> tracing_subscriber::Layer<S> for PanicsAt
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.panic_at(&message.0);
    }

    // Not at the entry: by then the registry has the span on its stack, for good.
    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.panic_at(ctx.span(id).map_or("", |span| span.name()));
    }
}

#[derive(Default)]
struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_subscriber_that_panics_at_the_events_of_the_drain_task_keeps_no_request_from_being_served() {
    let events =
        ["load_level", "drain task started", "drain task moves, its runtime is not driven"];
    for event in events {
        let _guard = PanicsAt::set(event);
        let layer = layer(Execution::Spawn, false);
        let mut service = layer.layer(Gate::open().service());
        let (first, second) = (runtime(), runtime());
        let calls = |service: &mut tower_load_leveling::LoadLevel<_, _, _, _>| {
            let calls: Vec<_> = (0..4).map(|id| service.call(id)).collect();
            timeout(SOON, futures::future::join_all(calls))
        };
        // The second is that to which the drain task moves.
        for runtime in [&first, &second] {
            let answers = runtime.block_on(async { calls(&mut service).await });
            for answer in answers.unwrap_or_else(|_| panic!("{event}: a call hangs")) {
                answer.unwrap_or_else(|error| panic!("{event}: {error}"));
            }
        }
    }
}

#[test]
fn a_subscriber_that_panics_while_a_runtime_ends_keeps_no_answer_from_a_caller() {
    for queued in [false, true] {
        let layer = layer(Execution::Spawn, false);
        let handle = layer.handle();
        let mut service = layer.layer(Gate::new().service());
        let (ends, lives) = (runtime(), runtime());
        let call = ends.block_on(async {
            if queued {
                handle.pause();
            }
            let call = service.call(0);
            handle.resume();
            support::settle().await;
            call
        });
        assert_eq!(handle.stats().in_flight, 1);
        let guard = PanicsAt::set("request finished");
        drop(ends);
        drop(guard);
        let answer = lives.block_on(async { timeout(SOON, call).await });
        let error = answer.expect("law 1: it hangs").expect_err("its runtime has ended");
        assert!(error.is::<ServiceError>(), "{error}");
        assert_nothing_is_held(&handle, "after the end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_no_task_although_a_subscriber_panics() {
    for event in ["request finished", "caller"] {
        let layer = layer(Execution::Spawn, false);
        let mut service = layer.layer(Gate::new().service());
        let running = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let first = info_span!("first").in_scope(|| service.call(0));
        support::settle().await;
        drop(first);
        support::settle().await;
        let before = running();
        let guard = PanicsAt::set(event);
        let mut call = None;
        // Leaving the scope panics at the latest.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _entered = info_span!("caller").entered();
            call = Some(service.call(1));
        }));
        support::settle().await;
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        drop(guard);
        support::settle().await;
        assert_eq!(running(), before, "{event}");
        assert_nothing_is_held(&layer.handle(), event);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_subscriber_breaks_off_is_not_said_to_be_unstarted() {
    for execution in [Execution::Caller, Execution::Spawn] {
        for (event, is_harmless) in [("request dispatched", false), ("caller", true)] {
            let layer = layer(execution, false);
            let handle = layer.handle();
            let gate = Gate::open();
            let mut service = layer.layer(gate.service());
            handle.pause();
            let guard = PanicsAt::set(event);
            let mut call = None;
            let _ = catch_unwind(AssertUnwindSafe(|| {
                let _entered = info_span!("caller").entered();
                call = Some(service.call(0));
            }));
            handle.resume();
            support::settle().await;
            drop(guard);
            let call = call.expect("made");
            let answer = timeout(SOON, call).await.expect("law 1");
            assert_eq!(gate.called(), [0]);
            match answer {
                Ok(_) => assert!(is_harmless, "{execution:?}: {event}"),
                Err(error) => {
                    assert!(error.is::<ServiceError>(), "{execution:?}, {event}: {error}")
                }
            }
            support::settle().await;
            assert_nothing_is_held(&handle, event);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_when_a_span_is_closed_leaks_no_request() {
    for bypasses in [false, true] {
        let layer = LoadLevelLayer::builder().capacity(4).concurrency(1).bypass_limit(1);
        let layer = layer.classify_request(move |_: &Arc<()>| match bypasses {
            true => Class::bypass(),
            false => Class::new(),
        });
        let layer = layer.build().expect("valid");
        let mut service = layer.layer(NeverReady);
        let request = Arc::new(());
        let guard = support::scoped::subscriber(Dispatch::new(PanicsAtClose));
        let span = info_span!("caller");
        let mut call = None;
        let _ = catch_unwind(AssertUnwindSafe(|| call = Some(service.call(Arc::clone(&request)))));
        support::settle().await;
        let _ = catch_unwind(AssertUnwindSafe(|| drop(call)));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(span)));
        drop(guard);
        support::settle().await;
        assert_eq!(Arc::strong_count(&request), 1, "bypasses: {bypasses}");
        assert_nothing_is_held(&layer.handle(), "after the drop");
    }
}

/// All is in one span. Panics whenever a reference to it is dropped.
struct PanicsAtClose;

static SPAN: OnceLock<&'static Metadata<'static>> = OnceLock::new();

impl Subscriber for PanicsAtClose {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> Id {
        SPAN.get_or_init(|| span.metadata());
        Id::from_u64(1)
    }

    fn current_span(&self) -> Current {
        SPAN.get().map_or_else(Current::none, |span| Current::new(Id::from_u64(1), span))
    }

    fn try_close(&self, _: Id) -> bool {
        assert!(std::thread::panicking(), "at the close");
        false
    }

    fn record(&self, _: &Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct NeverReady;

impl Service<Arc<()>> for NeverReady {
    type Response = ();
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<(), Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Pending
    }

    fn call(&mut self, _: Arc<()>) -> Self::Future {
        std::future::ready(Ok(()))
    }
}
