//! When an algorithm is told of the time: while anything runs or waits, also when nothing finishes.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{EXECUTIONS, gate::Gate, settle};
use tokio::{
    runtime,
    time::{Instant, advance, sleep, timeout},
};
use tokio_test::task;
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    Builder, Class, LoadLevelLayer,
    limit::{Algorithm, Fixed, Load, Sample},
};

const MS: Duration = Duration::from_millis(1);

/// Notes its ticks, and asks for a limit that one of them may change.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ticks: Vec<(Instant, Load)>,
    limit: Option<f64>,
    /// At the next tick.
    then: Option<Then>,
}

#[derive(Clone, Copy)]
enum Then {
    Limit(f64),
    Panic,
}

impl Clock {
    fn limited(limit: usize) -> Self {
        let clock = Self::default();
        clock.state().limit = Some(limit as f64);
        clock
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    fn builder(&self) -> Builder {
        LoadLevelLayer::builder().adaptive(self.clone())
    }

    fn at_next_tick(&self, then: Then) {
        self.state().then = Some(then);
    }

    /// The ticks since this was last asked.
    fn ticks(&self) -> Vec<(Instant, Load)> {
        std::mem::take(&mut self.state().ticks)
    }
}

impl Algorithm for Clock {
    fn limit(&self) -> f64 {
        self.state().limit.unwrap_or(4.0)
    }

    fn on_sample(&mut self, _: &Sample) {}

    fn on_tick(&mut self, now: Instant, load: &Load) {
        let then = {
            let mut state = self.state();
            state.ticks.push((now, *load));
            state.then.take()
        };
        match then {
            Some(Then::Limit(limit)) => self.state().limit = Some(limit),
            Some(Then::Panic) => panic!("the algorithm panics"),
            None => {}
        }
    }
}

async fn pass(ms: u32) {
    for _ in 0..ms {
        advance(MS).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_is_told_the_time_every_10_ms_while_calls_hang() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let clock = Clock::limited(2);
        let layer = clock.builder().execution(execution).build().expect("valid");
        let mut service = layer.layer(Gate::new().service());
        let mut hang: Vec<_> = (0..3).map(|id| task::spawn(service.call(id))).collect();
        for call in &mut hang {
            let _pending = call.poll();
        }
        settle().await;
        let start = Instant::now();
        pass(1000).await;
        let ticks = clock.ticks();
        assert!((80..=100).contains(&ticks.len()), "{execution:?}: {} in a second", ticks.len());
        let mut last = start;
        for (at, load) in ticks {
            assert!((10 * MS..=12 * MS).contains(&(at - last)), "{:?}", at - last);
            assert_eq!(load, Load::new(2, 1));
            last = at;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_need_not_wait_get_ticks_too() {
    let _t = support::trace_init();
    let clock = Clock::default();
    let layer = clock.builder().build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    for round in 0..3 {
        // The drain task has nothing to do with this call, and has been asleep for a while.
        let call = task::spawn(service.call(round));
        settle().await;
        pass(50).await;
        let ticks = clock.ticks().len();
        assert!((4..=5).contains(&ticks), "round {round}: {ticks} in 50 ms");
        drop(call);
        settle().await;
        pass(50).await;
        clock.ticks();
        pass(1000).await;
        assert_eq!(clock.ticks(), [], "round {round}: nothing runs or waits");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_while_nothing_runs_get_ticks() {
    let _t = support::trace_init();
    let clock = Clock::default();
    let layer = clock.builder().build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    layer.handle().pause();
    let waits = task::spawn(service.call(0));
    settle().await;
    pass(45).await;
    let ticks = clock.ticks();
    assert!((3..=4).contains(&ticks.len()), "{ticks:?}");
    assert!(ticks.iter().all(|(_, load)| *load == Load::new(0, 1)), "{ticks:?}");
    drop(waits);
    pass(11).await;
    clock.ticks();
    pass(100).await;
    assert_eq!(clock.ticks(), []);
}

/// Counts how often the thread of a runtime goes to sleep: once for each time that it was woken up.
#[test]
fn an_idle_leveler_does_not_wake_up() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let sleeps = || runtime.metrics().worker_park_count(0);
    let clock = Clock::default();
    for layer in [clock.builder(), LoadLevelLayer::builder().concurrency(4)] {
        let layer = layer.build().expect("valid");
        let mut service = layer.layer(Gate::open().service());
        runtime.block_on(async {
            service.call(0).await.expect("served");
            sleep(100 * MS).await;
        });
        let (ticks, before) = (clock.ticks().len(), sleeps());
        runtime.block_on(async { sleep(Duration::from_secs(3600)).await });
        assert_eq!(clock.ticks().len(), 0, "{ticks} before");
        let woken = sleeps() - before;
        assert!(woken < 10, "woken up {woken} times in an hour");
    }
}

#[test]
fn a_fixed_limit_has_no_timer() {
    let builder = LoadLevelLayer::builder;
    for builder in [builder().concurrency(1), builder().adaptive(Fixed::new(1))] {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let layer = builder.build().expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let _calls = runtime.block_on(async {
            let calls = [service.call(0), service.call(1)];
            settle().await;
            calls
        });
        let before = runtime.metrics().worker_park_count(0);
        runtime.block_on(async { sleep(Duration::from_secs(3600)).await });
        let woken = runtime.metrics().worker_park_count(0) - before;
        assert!(woken < 10, "one runs and one waits for an hour: woken up {woken} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_found_at_a_tick_dispatches_as_many_as_fit_in_one_step() {
    let _t = support::trace_init();
    let clock = Clock::limited(1);
    let layer = clock.builder().build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..10).map(|id| service.call(id)).collect();
    settle().await;
    clock.at_next_tick(Then::Limit(7.0));
    pass(12).await;
    assert_eq!((gate.running(), layer.handle().stats().limit), (7, 7), "though none has finished");
    clock.at_next_tick(Then::Limit(2.0));
    pass(12).await;
    for (id, running) in [(0, 6), (1, 5), (2, 4), (3, 3), (4, 2), (5, 2)] {
        gate.finish(id);
        settle().await;
        assert_eq!(gate.running(), running, "a lowered limit takes effect as calls finish");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_a_tick_freezes_the_limit_and_hurts_nobody() {
    let _t = support::trace_init();
    let clock = Clock::limited(3);
    let layer = clock.builder().build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..5).map(|id| tokio::spawn(service.call(id))).collect();
    clock.at_next_tick(Then::Panic);
    pass(100).await;
    assert_eq!(clock.ticks().len(), 1, "there is no algorithm any more");
    assert_eq!((gate.running(), layer.handle().stats().limit), (3, 3));
    gate.finish_all();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_by_hand_ends_the_ticks() {
    let _t = support::trace_init();
    let clock = Clock::default();
    let layer = clock.builder().build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _runs = task::spawn(service.call(0));
    pass(25).await;
    assert!(!clock.ticks().is_empty());
    layer.handle().set_limit(3).expect("valid");
    pass(100).await;
    assert_eq!(clock.ticks(), []);
}

#[tokio::test(start_paused = true)]
async fn calls_that_go_past_the_queue_make_no_ticks() {
    let _t = support::trace_init();
    let clock = Clock::default();
    let layer = clock.builder().classify_request(|_: &u32| Class::bypass()).build();
    let mut service = layer.expect("valid").layer(Gate::new().service());
    let _check = task::spawn(service.call(0));
    pass(100).await;
    assert_eq!(clock.ticks(), []);
}

/// Law 15.
#[tokio::test(start_paused = true)]
async fn ticks_keep_nothing_alive() {
    let _t = support::trace_init();
    let tasks = || runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let clock = Clock::default();
    let layer = clock.builder().build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let hangs = service.call(0);
    pass(25).await;
    assert_eq!(tasks(), before + 2);
    drop((layer, service));
    settle().await;
    assert_eq!(tasks(), before + 1, "the drain task should have ended, and the call runs on");
    drop(hangs);
    settle().await;
    assert_eq!(tasks(), before);
    assert_eq!(Arc::strong_count(&clock.0), 1, "the algorithm should have been dropped");
}

/// On a paused clock time goes on by itself when there is nothing to do: from tick to tick, and to
/// the end.
#[tokio::test(start_paused = true)]
async fn a_clock_that_advances_by_itself_comes_to_an_end() {
    let _t = support::trace_init();
    let clock = Clock::limited(2);
    let layer = clock.builder().capacity(100).build().expect("valid");
    let mut service = layer.layer(service_fn(|_: u32| async {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(())
    }));
    let start = Instant::now();
    let calls = futures::future::join_all((0..10).map(|id| service.call(id)));
    calls.await.into_iter().for_each(|answer| answer.expect("served"));
    assert!(start.elapsed() < Duration::from_secs(6), "two by two: {:?}", start.elapsed());
    assert!(clock.ticks().len() > 400);
    let mut hangs = layer.layer(Gate::new().service());
    timeout(Duration::from_secs(60), hangs.call(0)).await.expect_err("it hangs");
    settle().await;
    assert_eq!(layer.handle().stats().cancelled, 1);
}
