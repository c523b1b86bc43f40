//! What a reader collects of a leveler.

use std::{collections::BTreeMap, convert::Infallible};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_recipe::observe;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData, ResourceMetrics},
};
use tower::{Layer, Service, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, Priority};

/// The series of a collection: name and attributes, and value. And the units by name.
fn read(collected: &[ResourceMetrics]) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut values, mut units) = (BTreeMap::new(), BTreeMap::new());
    let scopes = collected.iter().flat_map(ResourceMetrics::scope_metrics);
    for metric in scopes.flat_map(|scope| scope.metrics()) {
        units.insert(metric.name().to_owned(), metric.unit().to_owned());
        let points: Vec<(Vec<String>, f64)> = match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                assert!(sum.is_monotonic());
                sum.data_points()
                    .map(|point| (text(point.attributes()), point.value() as f64))
                    .collect()
            }
            AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                gauge.data_points().map(|point| (text(point.attributes()), point.value())).collect()
            }
            other => panic!("{}: {other:?}", metric.name()),
        };
        for (mut attributes, value) in points {
            attributes.sort();
            values.insert(format!("{} {}", metric.name(), attributes.join(",")), value);
        }
    }
    (values, units)
}

fn text<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> Vec<String> {
    attributes.map(|one| format!("{}={}", one.key, one.value)).collect()
}

#[tokio::test]
async fn a_reader_collects_the_numbers_of_a_leveler() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let layer = LoadLevelLayer::builder()
        .name("orders")
        .capacity(1)
        .concurrency(1)
        .request_classifier(|request: &u32| match request {
            0 => Class::new().priority(Priority::High),
            _ => Class::new(),
        })
        .build()
        .expect("valid");
    observe(&provider.meter("tower_load_leveling"), &layer.handle());

    let mut done = layer.layer(service_fn(|_: u32| async { Ok::<_, Infallible>(()) }));
    done.call(0).await.expect("runs");
    let mut never =
        layer.layer(service_fn(|_: u32| std::future::pending::<Result<(), Infallible>>()));
    let calls: Vec<_> = (1..=4).map(|request| tokio::spawn(never.call(request))).collect();
    tokio::task::yield_now().await;
    layer.handle().pause();
    tokio::task::spawn_blocking(move || provider.force_flush().expect("collected"))
        .await
        .expect("no panic");

    let (values, units) = read(&exporter.get_finished_metrics().expect("collected"));
    let value = |key: &str| values.get(&format!("load_leveling.{key}")).copied();
    assert_eq!(value("admitted_requests leveler=orders,priority=high"), Some(1.0));
    assert_eq!(value("admitted_requests leveler=orders,priority=normal"), Some(2.0));
    let full = "rejected_requests leveler=orders,priority=normal,reason=full,stage=door";
    assert_eq!(value(full), Some(2.0));
    assert_eq!(value("finished_requests leveler=orders,outcome=success"), Some(1.0));
    assert_eq!(value("queued_requests leveler=orders,priority=normal"), Some(1.0));
    for (gauge, expected) in [
        ("in_flight_requests", 1.0),
        ("slots_taken", 1.0),
        ("limit_slots", 1.0),
        ("capacity_requests", 1.0),
        ("paused", 1.0),
        ("closed", 0.0),
    ] {
        assert_eq!(value(&format!("{gauge} leveler=orders")), Some(expected), "{gauge}");
    }
    assert!(value("oldest_wait leveler=orders").is_some_and(|wait| wait > 0.0));
    assert_eq!(value("drain_rate leveler=orders"), None, "not measured yet");
    assert_eq!(units["load_leveling.oldest_wait"], "s");
    assert_eq!(units["load_leveling.queued_requests"], "{request}");
    drop(calls);
}

#[test]
fn the_docs_have_the_code_and_its_names() {
    let docs = include_str!("../../../docs/watching/opentelemetry.md");
    let code = include_str!("../src/recipe.rs");
    assert!(
        docs.contains(&format!("```rust\n{code}```\n")),
        "docs/watching/opentelemetry.md is old"
    );
    let table = include_str!("../../../docs/watching.md");
    let names = code.split('"').filter(|text| text.starts_with("load_leveling."));
    for name in names {
        assert!(table.contains(&format!("`{name}`")), "docs/watching.md lacks {name}");
    }
}
