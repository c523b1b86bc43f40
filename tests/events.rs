//! The events for an operator: few, on the edges, and each with the name of its leveler.

mod support;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use support::{
    builder,
    captured::{Captured, Event},
    gate::Gate,
    settle,
};
use tokio::{
    runtime,
    time::{interval, sleep},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevel, LoadLevelLayer, Overflow};
use tracing::Level;

const MS: Duration = Duration::from_millis(1);
const STALL: &str = "nothing has finished for 5 s, all slots are taken";

/// Makes `calls` calls at once at each interval, for some time.
async fn load<S>(service: &mut LoadLevel<S>, calls: u32, each: Duration, time: Duration)
where
    S: Service<u32, Response = u32, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    let (mut interval, rounds) = (interval(each), time.as_millis() / each.as_millis());
    for _ in 0..rounds {
        interval.tick().await;
        for id in 0..calls {
            drop(tokio::spawn(service.call(id)));
        }
    }
}

/// Returns an inner that answers after a time.
fn takes(
    time: Duration,
) -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Send + 'static {
    service_fn(move |id| async move {
        sleep(time).await;
        Ok(id)
    })
}

fn levels(events: &[Event]) -> Vec<Level> {
    events.iter().map(|event| event.0).collect()
}

/// The messages for an operator, in order.
fn told(captured: &Captured) -> Vec<(Level, String)> {
    let events = captured.all().into_iter().filter(|event| event.0 <= Level::INFO);
    events.map(|(level, fields)| (level, fields["message"].clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_overload_are_told_at_the_edges_and_once_a_minute() {
    let (_t, captured) = Captured::init();
    let layer = LoadLevelLayer::builder().name("orders").capacity(10).concurrency(1).build();
    let layer = layer.expect("valid");
    let mut service = layer.layer(takes(100 * MS));
    load(&mut service, 2, 100 * MS, Duration::from_secs(602)).await;
    let begins = captured.events("overload begins");
    assert_eq!(levels(&begins), [Level::INFO]);
    let minutes = captured.events("overload goes on");
    assert_eq!(levels(&minutes), [Level::WARN; 10]);
    for (_, fields) in &minutes {
        let number = |field: &str| fields[field].parse::<f64>().expect("a number");
        assert_eq!(fields["name"], "orders");
        assert_eq!(fields["limit"], "1");
        assert!((1180.0..=1220.0).contains(&number("asked")), "{fields:?}");
        assert!((590.0..=610.0).contains(&number("done")), "{fields:?}");
        assert!((570.0..=620.0).contains(&number("rejected")), "{fields:?}");
        assert_eq!(fields["reasons"], format!("full={}", fields["rejected"]));
        assert!((59.0..=61.1).contains(&number("seconds")), "{fields:?}");
        assert!((0.8..=1.1).contains(&number("oldest_wait")), "{fields:?}");
    }
    // Nothing comes any more, and still the end is told.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(levels(&captured.events("overload ends")), [Level::INFO]);
    assert_eq!(told(&captured).len(), 12);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(told(&captured).len(), 12);
}

#[tokio::test(start_paused = true)]
async fn bursts_that_come_again_and_again_are_one_pair_of_events() {
    let (_t, captured) = Captured::init();
    let layer = builder(8, 4).build().expect("valid");
    let mut service = layer.layer(takes(MS));
    load(&mut service, 16, 20 * MS, Duration::from_secs(10)).await;
    assert!(layer.handle().stats().refused.full > 1000);
    sleep(Duration::from_secs(5)).await;
    let messages: Vec<_> = told(&captured).into_iter().map(|(_, message)| message).collect();
    assert_eq!(messages, ["overload begins", "overload ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_and_one_more_later_are_nothing_to_tell() {
    let (_t, captured) = Captured::init();
    let layer = builder(8, 4).build().expect("valid");
    let mut service = layer.layer(takes(MS));
    for _ in 0..20 {
        load(&mut service, 16, 20 * MS, 100 * MS).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert!(layer.handle().stats().refused.full > 100);
    assert_eq!(told(&captured), []);
}

#[tokio::test(start_paused = true)]
async fn overload_without_a_queue_is_told_too() {
    let (_t, captured) = Captured::init();
    let layer = builder(0, 1).build().expect("valid");
    let mut service = layer.layer(takes(100 * MS));
    load(&mut service, 2, 100 * MS, Duration::from_secs(10)).await;
    assert_eq!(levels(&captured.events("overload begins")), [Level::INFO]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(levels(&captured.events("overload ends")), [Level::INFO]);
}

#[tokio::test(start_paused = true)]
async fn overload_that_shows_in_removals_alone_is_told_too() {
    let (_t, captured) = Captured::init();
    let layer = builder(100, 1).max_wait(150 * MS).build().expect("valid");
    let mut service = layer.layer(takes(100 * MS));
    load(&mut service, 2, 100 * MS, Duration::from_secs(70)).await;
    assert_eq!(layer.handle().stats().refused.total(), 0);
    let minutes = captured.events("overload goes on");
    assert!(minutes[0].1["reasons"].starts_with("max_wait="), "{minutes:?}");
    assert_eq!((minutes.len(), captured.events("overload begins").len()), (1, 1));
}

/// Calls one service as fast as it says that it is ready, as a job runner does.
async fn pull(layer: &LoadLevelLayer, jobs: u32) -> (u32, u32) {
    let mut service = layer.layer(takes(10 * MS));
    let mut calls = Vec::new();
    for id in 0..jobs {
        std::future::poll_fn(|cx| Service::<u32>::poll_ready(&mut service, cx)).await.expect("ok");
        calls.push(tokio::spawn(service.call(id)));
    }
    let (mut done, mut refused) = (0, 0);
    for call in calls {
        *(if call.await.expect("no panic").is_ok() { &mut done } else { &mut refused }) += 1;
    }
    (done, refused)
}

const STREAK: &str = "one service was refused again and again, the queue is full";

#[tokio::test(start_paused = true)]
async fn a_puller_that_nothing_holds_back_is_told_of_overflow_wait_once() {
    let (_t, captured) = Captured::init();
    let layer = builder(4, 8).name("jobs").build().expect("valid");
    assert_eq!(pull(&layer, 200).await, (12, 188));
    assert_eq!(pull(&layer, 200).await, (12, 188));
    let told = captured.events(STREAK);
    assert_eq!(levels(&told), [Level::INFO]);
    assert_eq!((&*told[0].1["name"], &*told[0].1["refused"]), ("jobs", "100"));
    assert!(told[0].1["hint"].contains("Overflow::Wait"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_puller_that_waits_for_places_does_every_job_and_is_told_nothing() {
    let (_t, captured) = Captured::init();
    let layer = builder(4, 8).overflow(Overflow::Wait).build().expect("valid");
    assert_eq!(pull(&layer, 200).await, (200, 0));
    assert_eq!(told(&captured), []);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_clones_its_service_for_each_request_is_not_taken_for_a_puller() {
    let (_t, captured) = Captured::init();
    let layer = builder(4, 8).build().expect("valid");
    let service = layer.layer(takes(10 * MS));
    for id in 0..1000 {
        drop(tokio::spawn(service.clone().call(id)));
    }
    assert!(layer.handle().stats().refused.full > 900);
    assert_eq!(captured.events(STREAK), []);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_once_and_so_is_its_end() {
    let (_t, captured) = Captured::init();
    let layer = LoadLevelLayer::builder().name("orders").capacity(10).concurrency(1);
    let layer = layer.max_wait(50 * MS).build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    load(&mut service, 1, 100 * MS, Duration::from_secs(600)).await;
    let stalls = captured.events(STALL);
    assert_eq!(levels(&stalls), [Level::WARN]);
    assert_eq!((&*stalls[0].1["name"], &*stalls[0].1["limit"]), ("orders", "1"));
    assert_eq!(captured.events("stall ends").len(), 0);
    gate.finish(0);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(levels(&captured.events("stall ends")), [Level::INFO]);
    assert_eq!(levels(&captured.events(STALL)), [Level::WARN]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_where_services_wait_for_a_place() {
    let (_t, captured) = Captured::init();
    let layer = builder(0, 1).overflow(Overflow::Wait).build().expect("valid");
    let gate = Gate::new();
    let service = layer.layer(gate.service());
    for id in 0..2 {
        let mut service = service.clone();
        tokio::spawn(async move { service.ready().await.expect("no error").call(id).await });
    }
    sleep(Duration::from_millis(4900)).await;
    assert_eq!(told(&captured), []);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(told(&captured), [(Level::WARN, STALL.to_owned())]);
    gate.finish(0);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(levels(&captured.events("stall ends")), [Level::INFO]);
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_although_callers_give_up() {
    let (_guard, captured) = Captured::init();
    let layer = builder(10, 1).build().expect("valid");
    let mut service = layer.layer(Gate::new().service());
    let _running = tokio::spawn(service.call(0));
    for id in 1..60 {
        // Each waits for 3 s, and goes.
        tokio::spawn(tokio::time::timeout(3000 * MS, service.call(id)));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(levels(&captured.events(STALL)), [Level::WARN]);
}

#[tokio::test(start_paused = true)]
async fn bursts_that_are_far_apart_are_no_stall() {
    let (_guard, captured) = Captured::init();
    let layer = builder(12, 4).build().expect("valid");
    let mut service = layer.layer(takes(20 * MS));
    for _ in 0..4 {
        load(&mut service, 8, 20 * MS, 10_000 * MS).await;
        sleep(10_000 * MS).await;
    }
    let stalls = told(&captured).into_iter().filter(|(_, message)| message.contains("stall"));
    assert_eq!((captured.events(STALL).len(), stalls.count()), (0, 0), "{:?}", told(&captured));
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_told_although_nothing_happens_any_more() {
    let (_t, captured) = Captured::init();
    let layer = builder(10, 1).build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..2).map(|id| tokio::spawn(service.call(id))).collect();
    sleep(Duration::from_millis(4900)).await;
    assert_eq!(told(&captured), []);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(told(&captured), [(Level::WARN, STALL.to_owned())]);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(told(&captured).len(), 1);
    gate.finish(0);
    settle().await;
    assert_eq!(levels(&captured.events("stall ends")), [Level::INFO], "at once");
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_paused_or_paced_has_not_stalled() {
    let (_t, captured) = Captured::init();
    let slow = builder(1000, 1).build().expect("valid");
    let mut service = slow.layer(takes(Duration::from_secs(3)));
    let mut calls: Vec<_> = (0..20).map(|id| tokio::spawn(service.call(id))).collect();
    let paced = builder(1000, 1).rate(1, Duration::from_secs(60)).build().expect("valid");
    let mut service = paced.layer(takes(MS));
    calls.extend((0..3).map(|id| tokio::spawn(service.call(id))));
    let paused = builder(1000, 1).build().expect("valid");
    let mut service = paused.layer(takes(MS));
    paused.handle().pause();
    calls.extend((0..3).map(|id| tokio::spawn(service.call(id))));
    sleep(Duration::from_secs(59)).await;
    assert_eq!(told(&captured), [(Level::INFO, "paused".to_owned())]);
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn a_closed_leveler_that_is_still_asked_is_not_overloaded() {
    let (_t, captured) = Captured::init();
    let layer = builder(10, 1).build().expect("valid");
    let mut service = layer.layer(takes(MS));
    service.call(0).await.expect("served");
    layer.handle().close();
    load(&mut service, 1, 10 * MS, Duration::from_secs(70)).await;
    assert_eq!(told(&captured), [(Level::INFO, "closed".to_owned())]);
}

#[test]
fn a_runtime_without_timers_serves_a_fixed_limit() {
    let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
    let layer = builder(10, 1).build().expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    runtime.block_on(async {
        let calls: Vec<_> = (0..20).map(|id| tokio::spawn(service.call(id))).collect();
        settle().await;
        gate.finish_all();
        let answers = futures::future::join_all(calls).await;
        let served = answers.into_iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
        assert_eq!(served, 11);
    });
    assert_eq!(layer.handle().stats().refused.full, 9);
}

/// Files with events of no leveler, and why.
const WITHOUT_NAME: [(&str, &str); 4] = [
    // A rejection layer answers for whatever is inside of it.
    ("http/rejection.rs", "request failed"),
    ("grpc/rejection.rs", "request failed"),
    // The body is read before the request comes to a leveler.
    ("http/read_ahead/service.rs", "request dropped, "),
    // A classifier may serve several levelers, and knows none.
    ("http/deadline.rs", "deadline ignored"),
];

#[test]
fn every_event_has_the_name_of_its_leveler_and_the_table_of_the_docs_has_every_event() {
    let docs = fs::read_to_string("docs/watching.md").expect("the docs");
    let table = docs.lines().skip_while(|line| !line.starts_with("| level | event |")).skip(2);
    let rows: Vec<_> = table.take_while(|line| line.starts_with('|')).collect();
    let mut told = BTreeSet::new();
    for (path, text) in sources(Path::new("src")) {
        for (level, event) in events(&text) {
            let message = event.rsplit('"').nth(1).expect("a message");
            let fields = fields(&event);
            let is_excepted =
                |(file, of): &(&str, &str)| path.ends_with(file) && message.starts_with(of);
            assert!(
                fields.iter().any(|field| field == "name") || WITHOUT_NAME.iter().any(is_excepted),
                "{path}: `{message}` has no field `name`"
            );
            let cells = format!("| `{level}` | `{message}` |");
            let row = rows.iter().find(|row| row.starts_with(&cells));
            let row = row.unwrap_or_else(|| panic!("{path}: docs/watching.md lacks `{cells}`"));
            // Rows of one shape say "the same".
            for field in fields.iter().filter(|field| *field != "name") {
                let is_said = row.contains(&format!("`{field}`")) || row.contains("the same");
                assert!(is_said, "{path}: the row of `{message}` lacks the field `{field}`");
            }
            told.insert(cells);
        }
    }
    assert!(told.len() > 25, "found {told:?}");
    for row in rows {
        assert!(told.iter().any(|cells| row.starts_with(cells)), "no such event: {row}");
    }
}

#[test]
fn every_example_shows_the_events() {
    let mut count = 0;
    for (path, text) in sources(Path::new("examples")) {
        if path.ends_with(".rs") && text.contains("fn main() ") {
            assert!(text.contains("tracing_subscriber::"), "{path} installs no subscriber");
            count += 1;
        }
    }
    assert!(count > 10, "found {count} examples");
}

/// Returns the level of each event of a file, and its arguments up to the message, which ends it.
fn events(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for level in ["trace", "debug", "info", "warn", "error"] {
        // A macro in `drain/tell.rs` names the leveler in each of its events.
        let (shared, single) = (format!("tell!({level}, "), format!("tracing::{level}!("));
        let shared = text.split(&shared).skip(1).map(|event| format!("%name, {event}"));
        let single = text.split(&single).skip(1).map(str::to_owned);
        for event in single.chain(shared) {
            // The message is the only literal of an event, or the last.
            let ends = ["\")", "\"\n"].map(|end| event.find(end));
            let end = ends.into_iter().flatten().min().expect("the end of the message");
            found.push((level, event[..=end].to_owned()));
        }
    }
    found
}

/// Returns the names of the fields of an event, which come before the message.
fn fields(event: &str) -> Vec<String> {
    let event = event.rsplitn(3, '"').nth(2).expect("a message");
    let (mut depth, mut arguments) = (0, vec![String::new()]);
    for c in event.chars() {
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        match c {
            ',' if depth == 0 => arguments.push(String::new()),
            c => arguments.last_mut().expect("one").push(c),
        }
    }
    let name = |argument: &String| {
        let name = argument.split(" = ").next().expect("one").trim();
        name.trim_start_matches(['%', '?']).to_owned()
    };
    arguments.iter().map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_table_of_the_docs_has_every_number() {
    let docs = fs::read_to_string("docs/watching.md").expect("the docs");
    let table = docs.lines().skip_while(|line| !line.starts_with("| number of `Stats` |"));
    let table: String = table.take_while(|line| line.starts_with('|')).collect();
    let row = |of: &str| {
        let start = table.find(&format!("| `{of}")).unwrap_or_else(|| panic!("no row of {of}"));
        let row = &table[start..];
        &row[..row.find(" ||").unwrap_or(row.len())]
    };
    let mut count = 0;
    for (file, name, part) in [
        ("mod", "Stats", &*table),
        ("priority_stats", "PriorityStats", row("priority(p)")),
        ("flow_stats", "FlowStats", row("flows")),
        ("verdict", "Verdict", row("verdict()")),
        ("../limit/view", "View", row("limit_view")),
    ] {
        let text = fs::read_to_string(format!("src/stats/{file}.rs")).expect("the source");
        let fields = text.split_once(&format!("pub struct {name} {{")).expect("the struct").1;
        let fields = fields.split_once("\n}").expect("its end").0;
        for line in fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
            let field = line.split_once(':').expect("a field").0;
            assert!(part.contains(&format!("`{field}`")), "{name}::{field} is not in the docs");
            count += 1;
        }
    }
    assert!(count > 40, "found {count} numbers");
}

/// Returns the files below a folder, with what is in them.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => sources(&path),
            path => {
                let text = fs::read_to_string(&path).expect("text");
                vec![(path.display().to_string(), text)]
            }
        })
        .collect()
}
