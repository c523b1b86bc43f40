//! The text for Prometheus, as a strict reader takes it.
#![cfg(feature = "prometheus")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use support::{builder, gate::Gate, settle};
use tokio::time::sleep;
use tower::{Layer, Service};
use tower_load_leveling::{
    Class, Handle, LoadLevelLayer, Order, Priority,
    limit::{self, Algorithm},
    prometheus::render,
    settings::{Adaptive, AlgorithmName, Settings},
};

const MS: Duration = Duration::from_millis(1);

/// A sample: name, labels in order, and value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads the text format 0.0.4, and panics at whatever it does not allow. Returns the type of each
/// metric, and the samples.
fn read(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    assert!(text.is_empty() || text.ends_with('\n'));
    let (mut types, mut samples, mut helped) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a text");
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            assert!(helped.contains(name), "{line}");
            current = name.to_owned();
        } else {
            let sample = read_sample(line);
            let kind = &types[&current];
            let suffix = sample.0.strip_prefix(&current).unwrap_or_else(|| panic!("stray {line}"));
            let allowed: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
            samples.push(sample);
        }
    }
    let keys: BTreeSet<_> = samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(keys.len(), samples.len(), "a series comes twice");
    (types, samples)
}

fn read_sample(line: &str) -> Sample {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (name, mut rest) = line.split_once('{').expect("labels");
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    loop {
        let (label, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(label), "{line}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("the end of a value") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("\\{c} is no escape: {line}"),
                }),
                (_, c) => value.push(c),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    let value = rest.strip_prefix("} ").expect("a value");
    assert!(value.chars().all(|c| c.is_ascii_digit() || ".e-".contains(c)), "{line}");
    (name.to_owned(), labels, value.parse().expect("a number"))
}

/// The value of the series with these labels, beside `leveler`.
fn value(handle: &Handle, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (_, samples) = read(&render(std::slice::from_ref(handle)));
    let is_it = |(found, all, _): &&Sample| {
        found == name
            && all.len() == labels.len() + 1
            && labels.iter().all(|(k, v)| all.iter().any(|(key, value)| key == k && value == v))
    };
    samples.iter().find(is_it).map(|(_, _, value)| *value)
}

#[tokio::test(start_paused = true)]
async fn every_number_is_in_the_text() {
    let gate = Gate::new();
    let layer = LoadLevelLayer::builder()
        .name("orders")
        .capacity(2)
        .concurrency(1)
        .max_wait(1500 * MS)
        .order(Order::Lifo)
        .classify_request(|id: &u32| {
            Class::new().priority(if *id == 9 { Priority::High } else { Priority::Normal })
        })
        .build()
        .expect("valid");
    let handle = layer.handle();
    let mut service = layer.layer(gate.service());
    let _calls = [0, 1, 2, 3, 9].map(|id| tokio::spawn(service.call(id)));
    settle().await;
    sleep(40 * MS).await;
    let get = |name: &str, labels: &[(&str, &str)]| {
        value(&handle, &format!("load_leveling_{name}"), labels)
    };
    assert_eq!(get("admitted_requests_total", &[("priority", "normal")]), Some(3.0));
    assert_eq!(get("admitted_requests_total", &[("priority", "high")]), Some(1.0));
    assert_eq!(get("admitted_requests_total", &[("priority", "low")]), None, "0 is left out");
    let rejected = |priority, reason, stage| {
        let labels = [("priority", priority), ("reason", reason), ("stage", stage)];
        get("rejected_requests_total", &labels)
    };
    assert_eq!(rejected("normal", "full", "door"), Some(1.0));
    assert_eq!(rejected("normal", "evicted", "queue"), Some(1.0));
    assert_eq!(rejected("high", "full", "door"), None);
    assert_eq!(get("queued_requests", &[("priority", "normal")]), Some(1.0));
    assert_eq!(get("queued_requests", &[("priority", "high")]), Some(1.0));
    for (name, expected) in [
        ("in_flight_requests", 1.0),
        ("slots_taken", 1.0),
        ("bypassing_requests", 0.0),
        ("limit_slots", 1.0),
        ("capacity_requests", 2.0),
        ("oldest_wait_seconds", 0.04),
        ("max_wait_seconds", 1.5),
        ("paused", 0.0),
        ("closed", 0.0),
    ] {
        assert_eq!(get(name, &[]), Some(expected), "{name}");
    }
    assert_eq!(get("drain_rate_requests_per_second", &[]), None, "not measured");
    gate.finish(0);
    settle().await;
    assert_eq!(get("finished_requests_total", &[("outcome", "success")]), Some(1.0));
    assert_eq!(get("finished_requests_total", &[("outcome", "panic")]), Some(0.0));
    let wait = |le, result| get("wait_seconds_bucket", &[("le", le), ("result", result)]);
    assert_eq!(wait("0.001", "dispatched"), Some(1.0));
    assert_eq!(wait("0.025", "dispatched"), Some(1.0));
    assert_eq!(wait("0.05", "dispatched"), Some(2.0));
    assert_eq!(wait("+Inf", "dispatched"), Some(2.0));
    assert_eq!(get("wait_seconds_count", &[("result", "removed")]), Some(1.0));
    let sum = get("wait_seconds_sum", &[("result", "dispatched")]).expect("a sum");
    assert!((sum - 0.04).abs() < 0.04 * 0.035, "{sum}");
    assert_eq!(get("service_seconds_count", &[]), Some(1.0));
    let info = [
        ("order", "lifo"),
        ("overflow", "reject"),
        ("limit", "fixed"),
        ("mode", "live"),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    assert_eq!(get("info", &info), Some(1.0));
    handle.pause();
    assert_eq!(get("paused", &[]), Some(1.0));
    handle.close();
    assert_eq!((get("paused", &[]), get("closed", &[])), (Some(0.0), Some(1.0)));
}

/// The whole text, letter for letter: names, order, labels and buckets are a contract with whoever
/// has a dashboard. `GOLDEN=1` writes the file anew.
#[tokio::test(start_paused = true)]
async fn the_text_is_the_one_on_file() {
    let gate = Gate::new();
    let layer = builder(3, 1).name("orders").max_wait(60 * MS).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let _calls = [0, 1, 2, 3, 4].map(|id| tokio::spawn(service.call(id)));
    sleep(30 * MS).await;
    gate.finish(0);
    sleep(40 * MS).await;
    let text = render(&[layer.handle()]);
    read(&text);
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/prometheus.txt");
    if std::env::var_os("GOLDEN").is_some() {
        fs::write(path, &text).expect("writable");
    }
    let golden = fs::read_to_string(path).expect("the file");
    for (nth, (line, golden)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, golden, "line {}", nth + 1);
    }
    assert_eq!(text.len(), golden.len());
}

#[tokio::test(start_paused = true)]
async fn buckets_rise_and_end_in_the_count() {
    let layer = builder(100, 2).max_wait(300 * MS).build().expect("valid");
    let service = |time: u32| async move {
        sleep(time * MS).await;
        Ok::<_, std::convert::Infallible>(())
    };
    let mut service = layer.layer(tower::service_fn(service));
    let calls: Vec<_> = (0..60).map(|id| tokio::spawn(service.call(id * 3))).collect();
    for call in calls {
        let _ = call.await.expect("no panic");
    }
    let (types, samples) = read(&render(&[layer.handle()]));
    let mut series = BTreeMap::<_, Vec<(f64, f64)>>::new();
    for (name, labels, value) in &samples {
        let Some(name) = name.strip_suffix("_bucket") else { continue };
        assert_eq!(types[name], "histogram");
        let (le, others): (Vec<_>, Vec<_>) = labels.iter().partition(|(key, _)| key == "le");
        let le = if le[0].1 == "+Inf" { f64::INFINITY } else { le[0].1.parse().expect("a bound") };
        series.entry((name, others)).or_default().push((le, *value));
    }
    assert_eq!(series.len(), 5, "two of them are of the priority alone");
    for ((name, labels), buckets) in series {
        assert_eq!(buckets.len(), 17, "{name} {labels:?}");
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
        let count = samples.iter().find(|(found, all, _)| {
            *found == format!("{name}_count") && all.iter().collect::<Vec<_>>() == labels
        });
        let count = count.expect("a count").2;
        assert!(count > 0.0 && buckets[16].1 == count, "{name}: {buckets:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_priority_has_its_own_waits_and_outcomes_once_it_has_any() {
    let layer = LoadLevelLayer::builder()
        .capacity(9)
        .concurrency(1)
        .max_wait(30 * MS)
        .classify_request(|id: &u32| Class::new().priority(Priority::ALL[*id as usize]))
        .build()
        .expect("valid");
    let (gate, handle) = (Gate::new(), layer.handle());
    let mut service = layer.layer(gate.service());
    let _calls = [0, 1, 4].map(|id| tokio::spawn(service.call(id)));
    sleep(20 * MS).await;
    gate.finish(0);
    sleep(20 * MS).await;
    let get = |name: &str, labels: &[(&str, &str)]| {
        value(&handle, &format!("load_leveling_priority_{name}"), labels)
    };
    let finished = |priority, outcome| {
        get("finished_requests_total", &[("priority", priority), ("outcome", outcome)])
    };
    assert_eq!(finished("critical", "success"), Some(1.0));
    assert_eq!([finished("critical", "panic"), finished("high", "success")], [None; 2]);
    let waits = |priority, result, le| {
        get("wait_seconds_bucket", &[("priority", priority), ("result", result), ("le", le)])
    };
    assert_eq!(waits("high", "dispatched", "0.01"), Some(0.0));
    assert_eq!(waits("high", "dispatched", "0.025"), Some(1.0), "20 ms");
    assert_eq!(waits("background", "removed", "0.025"), Some(0.0));
    assert_eq!(waits("background", "removed", "0.05"), Some(1.0), "30 ms");
    assert_eq!(waits("background", "dispatched", "+Inf"), None);
    assert_eq!(waits("normal", "dispatched", "+Inf"), None);
}

#[tokio::test]
async fn an_algorithm_shows_its_phase_and_its_target() {
    let adaptive = |algorithm: AlgorithmName| {
        let mut settings = Settings::default();
        let mut adaptive = Adaptive::new(algorithm);
        adaptive.target = (algorithm == AlgorithmName::LatencyTarget).then_some(30 * MS);
        settings.concurrency = Some(adaptive.into());
        LoadLevelLayer::builder().settings(settings).build().expect("valid").handle()
    };
    let (bdp, target) = (adaptive(AlgorithmName::Bdp), adaptive(AlgorithmName::LatencyTarget));
    let phase = |handle, phase| value(handle, "load_leveling_limit_phase", &[("phase", phase)]);
    assert_eq!((phase(&bdp, "startup"), phase(&bdp, "cruise")), (Some(1.0), None));
    let seconds = |handle| value(handle, "load_leveling_limit_target_seconds", &[]);
    assert_eq!((seconds(&bdp), seconds(&target)), (None, Some(0.03)));
    assert!(!render(std::slice::from_ref(&target)).contains("limit_phase"), "it has none");
    bdp.set_limit(4).expect("valid");
    assert_eq!(phase(&bdp, "startup"), None, "it is not the algorithm's limit any more");
}

#[tokio::test]
async fn names_are_told_apart_and_hostile_ones_are_escaped() {
    let hostile = "a\"} 1\nb{x=\"\\";
    let handle = |name: &str| builder(1, 1).name(name).build().expect("valid").handle();
    let handles = [handle("a"), handle("a"), handle("a#2"), handle(hostile)];
    let (_, samples) = read(&render(&handles));
    let names: BTreeSet<_> = samples.iter().map(|(_, labels, _)| labels[0].1.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "a#2", "a#2#2", hostile]));
    let clones = [handles[0].clone(), handles[0].clone()];
    assert_eq!(render(&clones), render(&clones[..1]), "clones are of one leveler");
    assert_eq!(render(&[]), "");
}

/// An algorithm whose phase is not a word.
struct Odd;

impl Algorithm for Odd {
    fn limit(&self) -> f64 {
        2.0
    }

    fn on_sample(&mut self, _: &limit::Sample) {}

    fn view(&self) -> limit::View {
        limit::View::default().phase("a\"} 1\nb{x=\"\\")
    }
}

#[tokio::test]
async fn a_phase_that_is_not_a_word_is_escaped_as_a_name_is() {
    let handle = LoadLevelLayer::builder().adaptive(Odd).build().expect("valid").handle();
    let phase = Odd.view().phase;
    assert_eq!(value(&handle, "load_leveling_limit_phase", &[("phase", phase)]), Some(1.0));
}

#[test]
fn every_metric_is_in_the_docs_and_every_metric_of_the_docs_exists() {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/export/table.rs"));
    let source = source.expect("the table");
    let families: BTreeSet<_> = source
        .match_indices("name: \"")
        .map(|(at, found)| &source[at + found.len()..])
        .map(|rest| &rest[..rest.find('"').expect("the end")])
        .collect();
    assert_eq!(families.len(), 21);
    let file = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/").to_owned() + name;
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let docs = file("watching.md");
    let table = docs.lines().skip_while(|line| !line.starts_with("| metric |")).skip(2);
    let rows: Vec<_> = table.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), families.len());
    for family in &families {
        let at = source.find(&format!("name: \"{family}\"")).expect("found before");
        let kind = source[at..].split_once("Read::").expect("a type").1;
        let kind = &kind[..kind.find('(').expect("the end")].to_lowercase();
        let start = format!("| `{family}` | {kind}");
        let row = rows.iter().find(|row| row.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/watching.md lacks {start}"));
        // OpenTelemetry has dots, and the unit beside the name.
        let name = family.strip_prefix("load_leveling_").expect("the prefix");
        let name = ["_total", "_seconds", "_requests_per_second"]
            .iter()
            .fold(name, |name, unit| name.strip_suffix(unit).unwrap_or(name));
        assert!(row.contains(&format!("`load_leveling.{name}`")), "{row} lacks {name}");
        assert_eq!(row.contains("| seconds |"), family.ends_with("_seconds"), "{row}");
    }
    for name in ["watching.md", "watching/alerts.yml", "watching/grafana.json"] {
        let text = file(name);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (at, _) in text.match_indices("load_leveling_") {
            let rest = &text[at..];
            let found = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| found.strip_suffix(end));
            let exists = families.contains(found)
                || base.is_some_and(|base| families.contains(base) && base.ends_with("_seconds"));
            assert!(exists, "{name} speaks of {found}");
        }
    }
}
