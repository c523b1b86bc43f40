//! What a dashboard knows as JSON: `stats.json`, `history.json` and the events have one shape, and
//! differ in how many samples they have.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tower_load_leveling::{Priority, error::Reason};

use crate::{
    advice::{help, label},
    history::History,
    leveler::Watched,
    sample::{OfPriority, Sample},
    scale::{BUCKETS, end_of},
    shared::Shared,
    times::{Times, within},
};

/// The version of the shape. Additions do not change it.
const VERSION: u32 = 1;

/// The samples in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Samples {
    /// Those after the one of this number; all with 0.
    After(u64),
    Newest,
}

/// Returns the document, in one line.
pub(crate) fn document(shared: &Shared, samples: Samples) -> String {
    let levelers = shared.levelers();
    let levelers: Vec<_> = levelers.iter().map(|leveler| of_leveler(leveler, samples)).collect();
    let ends: Vec<_> = (0..BUCKETS).map(|bucket| rounded(end_of(bucket))).collect();
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| of_reason(*reason)).collect();
    let document = json!({
        "v": VERSION,
        "run": format!("{:x}", shared.run()),
        "newest": shared.newest(),
        "bucket_ends_ms": ends,
        "priorities": Priority::ALL.iter().map(Priority::as_str).collect::<Vec<_>>(),
        "reasons": reasons,
        "levelers": levelers,
    });
    document.to_string()
}

fn of_reason(reason: Reason) -> Value {
    json!({ "reason": reason.as_str(), "label": label(reason), "helps": help(reason) })
}

fn of_leveler(leveler: &Watched, samples: Samples) -> Value {
    let Watched { name, handle, .. } = leveler;
    let settings = serde_json::to_value(handle.settings()).unwrap_or_default();
    let history = leveler.history();
    let verdict = history.verdict();
    let sentence = match verdict.to_string().split_once(". ") {
        _ if !handle.is_enabled() => OFF.to_owned(),
        // The word comes by itself.
        Some((_word, sentence)) => sentence.to_owned(),
        None => verdict.to_string(),
    };
    let chosen = |sample: &&Sample| match samples {
        Samples::After(id) => sample.id > id,
        Samples::Newest => Some(sample.id) == history.samples().back().map(|newest| newest.id),
    };
    json!({
        "name": name,
        "state": verdict.state.as_str(),
        "sentence": sentence,
        "adaptive": handle.is_adaptive(),
        "settings": settings,
        "recent": recent(&history, handle.max_wait()),
        "samples": history.samples().iter().filter(chosen).map(of_sample).collect::<Vec<_>>(),
    })
}

/// The sentence of a leveler without a queue.
const OFF: &str = "Switched off: calls pass straight through, and nothing is counted.";

/// The sums of the period that the state is judged by.
fn recent(history: &History, max_wait: Option<Duration>) -> Value {
    let mut period = Duration::ZERO;
    let [mut asked, mut succeeded, mut failed, mut cancelled] = [0_u64; 4];
    let mut rejected = [0_u64; Reason::ALL.len()];
    let mut priorities = [[0_u64; 2]; Priority::ALL.len()];
    for sample in history.judged() {
        period += sample.period;
        asked += u64::from(sample.asked);
        succeeded += u64::from(sample.succeeded);
        failed += u64::from(sample.failed);
        cancelled += u64::from(sample.cancelled);
        let of = rejected.iter_mut().zip(sample.rejected);
        of.for_each(|(sum, count)| *sum += u64::from(count));
        for ([asked, turned_away], of) in priorities.iter_mut().zip(sample.priorities) {
            *asked += u64::from(of.asked);
            *turned_away += u64::from(of.turned_away);
        }
    }
    let of_priority = |[asked, turned_away]: &[u64; 2]| {
        (asked + turned_away > 0).then(|| json!([asked, turned_away]))
    };
    let priorities = Priority::ALL.iter().zip(&priorities);
    let waits = history.waits();
    let wait = |q| ms(within(waits.wait.quantile(q), max_wait));
    json!({
        "seconds": seconds(period),
        "asked": asked,
        "succeeded": succeeded,
        "failed": failed,
        "cancelled": cancelled,
        "rejected": by_reason(rejected),
        "priorities": named(priorities.map(|(p, of)| (p.as_str(), of_priority(of)))),
        "wait_ms": [wait(0.5), wait(0.99)],
        "removed_wait_ms": [
            ms(within(waits.removed_wait.quantile(0.5), max_wait)),
            ms(within(waits.removed_wait.quantile(0.99), max_wait)),
        ],
        "service_ms": [ms(waits.service_time.quantile(0.5)), ms(waits.service_time.quantile(0.99))],
    })
}

fn of_sample(sample: &Sample) -> Value {
    let of_priority = |of: &OfPriority| {
        let OfPriority { asked, turned_away, queued } = of;
        (asked + turned_away + queued > 0).then(|| json!([asked, turned_away, queued]))
    };
    let priorities = Priority::ALL.iter().zip(&sample.priorities);
    json!({
        "id": sample.id,
        "at": sample.at,
        "seconds": seconds(sample.period),
        "asked": sample.asked,
        "succeeded": sample.succeeded,
        "failed": sample.failed,
        "cancelled": sample.cancelled,
        "rejected": by_reason(sample.rejected),
        "queued": sample.queued,
        "in_flight": sample.in_flight,
        "slots_taken": sample.slots_taken,
        "limit": sample.limit,
        "capacity": sample.capacity,
        "oldest_wait_ms": ms(sample.oldest_wait),
        "max_wait_ms": ms(sample.max_wait),
        "paused": sample.paused,
        "closed": sample.closed,
        "wait": of_times(&sample.wait, sample.max_wait),
        "removed_wait": of_times(&sample.removed_wait, sample.max_wait),
        "service": of_times(&sample.service_time, None),
        "priorities": named(priorities.map(|(p, of)| (p.as_str(), of_priority(of)))),
    })
}

/// The median, the 99th percentile, and the buckets: each the number of the bucket and its count.
fn of_times(times: &Times, longest: Option<Duration>) -> Value {
    json!({
        "p50_ms": ms(within(times.p50, longest)),
        "p99_ms": ms(within(times.p99, longest)),
        "buckets": times.buckets().map(|(bucket, count)| json!([bucket, count])).collect::<Vec<_>>(),
    })
}

/// The counts that are not 0, by the word of the reason.
fn by_reason<T: Into<u64> + Copy>(counts: [T; Reason::ALL.len()]) -> Value {
    let counts = Reason::ALL.iter().zip(counts);
    named(counts.map(|(reason, count)| {
        let count = count.into();
        (reason.as_str(), (count > 0).then(|| count.into()))
    }))
}

/// An object with the values that are there.
fn named<'a>(values: impl Iterator<Item = (&'a str, Option<Value>)>) -> Value {
    let present = values.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn ms(time: Option<Duration>) -> Option<f64> {
    time.map(|time| rounded(time.as_secs_f64() * 1e3))
}

/// Never 0, so that rates can be computed.
fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64()).max(0.001)
}

/// Three digits after the point: microseconds of a time in milliseconds.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
