//! The metrics that the facade is told.
#![cfg(feature = "metrics")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, with_local_recorder,
};
use support::{builder, gate::Gate};
use tower::{Layer, Service};
use tower_load_leveling::{Class, Priority, metrics::Sampler};

/// Keeps what it is told, by name and labels.
#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    numbers: BTreeMap<String, f64>,
    times: BTreeMap<String, Vec<f64>>,
    described: BTreeMap<String, Option<Unit>>,
}

impl Notebook {
    fn number(&self, key: &str) -> Option<f64> {
        self.0.lock().expect("no panic").numbers.get(key).copied()
    }

    fn times(&self, key: &str) -> Vec<f64> {
        self.0.lock().expect("no panic").times.get(key).cloned().unwrap_or_default()
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        self.0.lock().expect("no panic").described.insert(name.as_str().to_owned(), unit);
    }
}

struct Line(String, Notebook);

impl Line {
    fn of(key: &Key, notes: &Notebook) -> Arc<Self> {
        let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
        let name = key.name().trim_start_matches("load_leveling_");
        Arc::new(Self(format!("{name} {}", labels.collect::<Vec<_>>().join(",")), notes.clone()))
    }

    fn set(&self, value: f64) {
        self.1.0.lock().expect("no panic").numbers.insert(self.0.clone(), value);
    }
}

impl CounterFn for Line {
    fn increment(&self, _: u64) {
        panic!("totals are set");
    }
    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Line {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }
    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }
    fn set(&self, value: f64) {
        self.set(value);
    }
}

impl HistogramFn for Line {
    fn record(&self, value: f64) {
        let mut notes = self.1.0.lock().expect("no panic");
        notes.times.entry(self.0.clone()).or_default().push(value);
    }
}

impl Recorder for Notebook {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Line::of(key, self))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Line::of(key, self))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Line::of(key, self))
    }
}

#[tokio::test(start_paused = true)]
async fn the_recorder_is_told_totals_states_and_the_times_since_the_last_look() {
    let notes = Notebook::default();
    let layer = builder(8, 2).name("orders").build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    let mut sampler = Sampler::new().watch(layer.handle());
    service.call(0).await.expect("answered");
    assert!(with_local_recorder(&notes, || sampler.sample()));
    let admitted = "admitted_requests_total leveler=orders,priority=normal";
    assert_eq!(notes.number(admitted), Some(1.0));
    assert_eq!(notes.number("limit_slots leveler=orders"), Some(2.0));
    assert_eq!(notes.number("max_wait_seconds leveler=orders"), None);
    let waits = "wait_seconds leveler=orders,result=dispatched";
    assert_eq!(notes.times(waits), [0.0]);
    assert_eq!(notes.times("service_seconds leveler=orders").len(), 1);

    with_local_recorder(&notes, || sampler.sample());
    assert_eq!(notes.times(waits).len(), 1, "nothing is told twice");
    service.call(1).await.expect("answered");
    service.call(2).await.expect("answered");
    with_local_recorder(&notes, || sampler.sample());
    assert_eq!((notes.times(waits).len(), notes.number(admitted)), (3, Some(3.0)));

    let described = &notes.0.lock().expect("no panic").described;
    assert_eq!(described.len(), 21);
    assert_eq!(described["load_leveling_wait_seconds"], Some(Unit::Seconds));
}

#[tokio::test(start_paused = true)]
async fn a_gauge_that_is_left_out_does_not_keep_its_last_value() {
    let notes = Notebook::default();
    let layer = builder(8, 1)
        .name("orders")
        .max_wait(Duration::from_secs(1))
        .request_classifier(|_: &u32| Class::new().priority(Priority::High))
        .build()
        .expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..3).map(|id| tokio::spawn(service.call(id))).collect();
    tokio::task::yield_now().await;
    let mut sampler = Sampler::new().watch(layer.handle());
    with_local_recorder(&notes, || sampler.sample());
    let queued = "queued_requests leveler=orders,priority=high";
    let info = "info leveler=orders,order=fifo,overflow=reject,limit=fixed,mode=live,version=";
    let info = info.to_owned() + env!("CARGO_PKG_VERSION");
    assert_eq!((notes.number(queued), notes.number(&info)), (Some(2.0), Some(1.0)));
    assert_eq!(notes.number("max_wait_seconds leveler=orders"), Some(1.0));
    gate.finish_all();
    for call in calls {
        call.await.expect("no panic").expect("answered");
    }
    layer.handle().set_max_wait(None);
    with_local_recorder(&notes, || sampler.sample());
    assert_eq!((notes.number(queued), notes.number(&info)), (Some(0.0), Some(1.0)));
    assert!(notes.number("max_wait_seconds leveler=orders").is_some_and(f64::is_nan));
}

#[tokio::test(start_paused = true)]
async fn times_of_a_priority_that_comes_later_are_told_as_its_own() {
    let notes = Notebook::default();
    let classify = |id: &u32| Class::new().priority(Priority::ALL[*id as usize]);
    let layer = builder(8, 1).name("orders").request_classifier(classify).build().expect("valid");
    let mut service = layer.layer(Gate::open().service());
    let mut sampler = Sampler::new().watch(layer.handle());
    let waits = |priority: &str| {
        let key = "priority_wait_seconds leveler=orders,priority=";
        notes.times(&format!("{key}{priority},result=dispatched")).len()
    };
    // The series of the first priority comes before that of the second.
    for (id, expected) in [(2, [0, 1]), (2, [0, 2]), (0, [1, 2]), (2, [1, 3])] {
        service.call(id).await.expect("answered");
        with_local_recorder(&notes, || sampler.sample());
        assert_eq!([waits("critical"), waits("normal")], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sampler_ends_with_the_last_of_its_levelers_and_keeps_none_alive() {
    let notes = Notebook::default();
    let _recorder = metrics::set_default_local_recorder(&notes);
    let (first, second) = (builder(8, 2).name("one"), builder(8, 3).name("one"));
    let (first, second) = (first.build().expect("valid"), second.build().expect("valid"));
    Sampler::new()
        .watch(first.handle())
        .watch(second.handle())
        .watch(second.handle())
        .every(Duration::from_secs(10))
        .spawn();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(notes.number("limit_slots leveler=one"), Some(2.0));
    assert_eq!(notes.number("limit_slots leveler=one#2"), Some(3.0), "told apart");
    assert_eq!(notes.number("limit_slots leveler=one#3"), None, "watched once");
    drop(first);
    second.handle().set_limit(7).expect("valid");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(notes.number("limit_slots leveler=one#2"), Some(7.0));
    let runtime = tokio::runtime::Handle::current();
    assert_eq!(runtime.metrics().num_alive_tasks(), 1);
    drop(second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(runtime.metrics().num_alive_tasks(), 0, "nothing is left to watch");
}
