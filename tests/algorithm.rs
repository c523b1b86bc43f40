//! What an algorithm is told of the calls, and what becomes of the limit that it asks for.

mod support;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use support::{
    EXECUTIONS,
    gate::{Gate, Told},
    reason, settle,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_ready, task};
use tower::{Layer, Service};
use tower_load_leveling::{
    Abandon, Builder, Class, LoadLevelLayer,
    error::Reason,
    limit::{Algorithm, Outcome, Sample},
};

const MS: Duration = Duration::from_millis(1);

/// Keeps its samples, and asks for the limit that it was told last.
#[derive(Clone)]
struct Puppet(Arc<Mutex<State>>);

struct State {
    samples: Vec<Sample>,
    limit: f64,
}

impl Puppet {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State { samples: Vec::new(), limit: limit as f64 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    fn builder(&self) -> Builder {
        LoadLevelLayer::builder().adaptive(self.clone())
    }

    /// After the next sample.
    fn ask_for(&self, limit: f64) {
        self.state().limit = limit;
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.state().samples.iter().map(|sample| sample.outcome).collect()
    }
}

impl Algorithm for Puppet {
    fn limit(&self) -> f64 {
        self.state().limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.state().samples.push(sample.clone());
    }
}

fn in_100_ms(_: &u32) -> Class {
    Class::new().deadline(Instant::now() + 100 * MS)
}

/// Trap T45: were these not told, only those that went well would be.
#[tokio::test(start_paused = true)]
async fn a_running_call_that_is_dropped_at_its_deadline_is_a_sign_of_overload() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        for (age, outcome) in
            [(99, Outcome::Cancelled), (100, Outcome::Overload), (250, Outcome::Overload)]
        {
            let puppet = Puppet::new(2);
            let builder = puppet.builder().execution(execution);
            let layer = builder.classify_request(in_100_ms).build().expect("valid");
            let mut service = layer.layer(Gate::new().service());
            let call = task::spawn(service.call(0));
            settle().await;
            advance(age * MS).await;
            drop(call);
            settle().await;
            assert_eq!(puppet.outcomes(), [outcome], "{execution:?}, dropped after {age} ms");
            assert_eq!(puppet.state().samples[0].service_time(), age * MS);
            let stats = layer.handle().stats();
            assert_eq!((stats.cancelled, stats.failed, stats.overloaded), (1, 0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_arrival_for_those_that_had_to_wait() {
    let _t = support::trace_init();
    let puppet = Puppet::new(1);
    let layer = puppet.builder().classify_request(in_100_ms).build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let first = task::spawn(service.call(0));
    let second = task::spawn(service.call(1));
    settle().await;
    advance(60 * MS).await;
    gate.finish(0);
    settle().await;
    advance(40 * MS).await;
    drop((first, second));
    settle().await;
    assert_eq!(puppet.outcomes(), [Outcome::Success, Outcome::Overload]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_for_another_reason_says_nothing() {
    let _t = support::trace_init();
    let puppet = Puppet::new(8);
    let layer = puppet.builder().build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let without_deadline = task::spawn(service.call(0));
    let panics = tokio::spawn(service.call(1));
    settle().await;
    advance(Duration::from_secs(3600)).await;
    drop(without_deadline);
    gate.end(1, Told::Panic);
    assert!(panics.await.expect_err("it panics").is_panic());
    settle().await;
    assert_eq!(puppet.outcomes(), [Outcome::Cancelled; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_finished_for_nobody_is_judged_by_how_it_ends() {
    let _t = support::trace_init();
    let puppet = Puppet::new(8);
    let builder = puppet.builder().abandon(Abandon::Finish).classify_request(in_100_ms);
    let layer = builder.build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    drop(service.call(0));
    settle().await;
    advance(200 * MS).await;
    gate.finish(0);
    settle().await;
    assert_eq!(puppet.outcomes(), [Outcome::Success]);
    assert_eq!(puppet.state().samples[0].service_time(), 200 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_the_inner_never_saw_makes_no_sample() {
    let _t = support::trace_init();
    let puppet = Puppet::new(1);
    let layer = puppet.builder().capacity(2).max_wait(50 * MS).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _runs = task::spawn(service.call(0));
    let mut late = task::spawn(service.call(1));
    let cancelled = task::spawn(service.call(2));
    assert_eq!(reason(service.call(3).await), Reason::Full);
    settle().await;
    drop(cancelled);
    advance(60 * MS).await;
    settle().await;
    assert_eq!(reason(assert_ready!(late.poll())), Reason::MaxWait);
    let _waits = service.call(4);
    assert_eq!(layer.handle().abort_queued(), 1);
    settle().await;
    assert_eq!(puppet.outcomes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_limit_grows_at_once_and_shrinks_by_debt() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let puppet = Puppet::new(1);
        let layer = puppet.builder().execution(execution).build().expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let calls: Vec<_> = (0..20).map(|id| tokio::spawn(service.call(id))).collect();
        settle().await;
        assert_eq!(gate.running(), 1);
        puppet.ask_for(8.9);
        gate.finish(0);
        settle().await;
        assert_eq!(gate.running(), 8, "{execution:?}: all that fit, after one sample");
        assert_eq!(layer.handle().stats().limit, 8);
        puppet.ask_for(3.0);
        for (id, running) in [(1, 7), (2, 6), (3, 5), (4, 4), (5, 3), (6, 3), (7, 3)] {
            gate.finish(id);
            settle().await;
            assert_eq!(gate.running(), running, "{execution:?}: none starts before there is room");
            assert_eq!(layer.handle().stats().limit, 3);
        }
        gate.finish_all();
        for call in calls {
            call.await.expect("no panic").expect("every call should be answered");
        }
        assert_eq!((gate.peak(), gate.called().len()), (8, 20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_set_by_hand_stays() {
    let _t = support::trace_init();
    let puppet = Puppet::new(2);
    let layer = puppet.builder().build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let _calls: Vec<_> = (0..20).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    layer.handle().set_limit(5).expect("valid");
    settle().await;
    assert_eq!(gate.running(), 5);
    puppet.ask_for(9.0);
    gate.finish(0);
    settle().await;
    assert_eq!((gate.running(), layer.handle().stats().limit), (5, 5));
    assert!(layer.handle().resume_adaptive());
    gate.finish(1);
    settle().await;
    assert_eq!(layer.handle().limit(), 9, "until it goes back to the algorithm");
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_a_sample_freezes_the_limit_and_hurts_nobody() {
    let _t = support::trace_init();
    struct Panics;
    impl Algorithm for Panics {
        fn limit(&self) -> f64 {
            3.0
        }
        fn on_sample(&mut self, _: &Sample) {
            panic!("the algorithm panics");
        }
    }
    let layer = LoadLevelLayer::builder().adaptive(Panics).build().expect("valid");
    let gate = Gate::open();
    let mut service = layer.layer(gate.service());
    for id in 0..5 {
        service.call(id).await.expect("served");
    }
    assert_eq!(layer.handle().stats().limit, 3);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_leveler_keeps_the_limit_that_was_found() {
    let _t = support::trace_init();
    let puppet = Puppet::new(2);
    let layer = puppet.builder().build().expect("valid");
    puppet.ask_for(6.0);
    layer.layer(Gate::open().service()).call(0).await.expect("served");
    settle().await;
    let fresh = layer.fresh();
    puppet.ask_for(7.0);
    for layer in [&fresh, &layer] {
        layer.layer(Gate::open().service()).call(0).await.expect("served");
        settle().await;
    }
    assert_eq!((fresh.handle().stats().limit, layer.handle().stats().limit), (6, 7));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_pace_is_not_waiting_for_a_slot() {
    let _t = support::trace_init();
    for (limit, reached) in [(2, [false, false]), (1, [true, true])] {
        let puppet = Puppet::new(limit);
        let builder = puppet.builder().capacity(4);
        let layer = builder.rate(1, Duration::from_secs(1)).build().expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let calls = [0, 1, 2].map(|call| task::spawn(service.call(call)));
        settle().await;
        gate.finish(0);
        settle().await;
        advance(Duration::from_secs(1)).await;
        settle().await;
        gate.finish(1);
        settle().await;
        let told: Vec<bool> =
            puppet.state().samples.iter().map(|sample| sample.limit_reached).collect();
        assert_eq!(told, reached, "limit {limit}");
        drop(calls);
    }
}
