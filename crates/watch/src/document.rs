//! The knowledge of a dashboard as JSON: `stats.json`, `history.json` and the events have one
//! shape, and differ in the number of samples.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tower_load_leveling::{Priority, error::Reason, limit::View, stats::State};

use crate::{
    advice::{help, label},
    history::{History, OfFlow},
    leveler::Watched,
    names::Names,
    sample::{OfPriority, Sample},
    scale::{BUCKETS, end_of},
    shared::Shared,
    times::{Merged, Micros, Times, within},
};

/// The version of the shape. Additions keep the version.
const VERSION: u32 = 1;

/// The samples in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Samples {
    /// The samples after the sample of this number; all samples with 0.
    After(u64),
    Newest,
}

/// Returns the document, in one line.
pub(crate) fn document(shared: &Shared, samples: Samples) -> String {
    let (levelers, names) = (shared.levelers(), shared.names());
    let of = |leveler: &Arc<Watched>| of_leveler(leveler, &names, samples);
    let levelers: Vec<_> = levelers.iter().map(of).collect();
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

fn of_leveler(leveler: &Watched, names: &Names, samples: Samples) -> Value {
    let Watched { name, handle, .. } = leveler;
    let settings = serde_json::to_value(handle.settings()).unwrap_or_default();
    // Not under the lock: the names are given by code of the user.
    let flows = leveler.history().flows();
    let flows: Vec<_> = flows.iter().map(|flow| of_flow(flow, names)).collect();
    let history = leveler.history();
    let verdict = history.verdict();
    let mut sentence = match verdict.to_string().split_once(". ") {
        _ if !handle.is_enabled() => OFF.to_owned(),
        // The word comes by itself.
        Some((_word, sentence)) => sentence.to_owned(),
        None => verdict.to_string(),
    };
    if verdict.state == State::Overloaded && handle.is_enabled() {
        sentence.push_str(&less_than_before(&history));
    }
    let chosen = |sample: &&Sample| match samples {
        Samples::After(id) => sample.id > id,
        Samples::Newest => Some(sample.id) == history.samples().back().map(|newest| newest.id),
    };
    json!({
        "name": name,
        "state": verdict.state.as_str(),
        "sentence": sentence,
        "adaptive": handle.is_adaptive(),
        "limit_view": history.limit_view().map(of_view),
        "settings": settings,
        "recent": recent(&history, handle.max_wait().map(Micros::from)),
        "flows": flows,
        "samples": history.samples().iter().filter(chosen).map(of_sample).collect::<Vec<_>>(),
    })
}

/// The share of the earlier rate below which a leveler does less than before. Ten seconds of a
/// backend that has not changed differ by less.
const LESS: f64 = 0.8;

/// Says that fewer calls succeed than did before, if so. Under overload the demand is no reason.
fn less_than_before(history: &History) -> String {
    let (now, best) = history.successes();
    if now >= LESS * best {
        return String::new();
    }
    format!(
        " It does less than before: {now:.0} succeed a second; in the last 5 min, up to {best:.0} \
         did."
    )
}

fn of_flow(flow: &OfFlow, names: &Names) -> Value {
    let OfFlow { id, asked, rejected } = flow;
    json!({ "id": id.to_string(), "name": names.of(*id), "asked": asked, "rejected": rejected })
}

fn of_view(view: View) -> Value {
    let View { phase, target, rate, .. } = view;
    let target = target.map(Micros::from);
    json!({ "phase": phase, "target_ms": ms(target), "rate": rate.map(rounded) })
}

/// The sentence of a leveler without a queue.
const OFF: &str = "Switched off: calls pass straight through, and nothing is counted.";

/// The sums of the judged period.
fn recent(history: &History, max_wait: Option<Micros>) -> Value {
    let mut seconds = 0.0;
    let [mut asked, mut succeeded, mut failed, mut cancelled] = [0_u64; 4];
    let mut rejected = [0_u64; Reason::ALL.len()];
    let mut priorities = [[0_u64; 2]; Priority::ALL.len()];
    for sample in history.judged() {
        seconds += in_seconds(sample.period);
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
    let waits = history.waits();
    let pair =
        |times: &Merged, longest| [0.5, 0.99].map(|q| ms(within(times.quantile(q), longest)));
    let of_priority = |([asked, turned_away], wait): (&[u64; 2], &Merged)| {
        let of = json!({
            "asked": asked, "turned_away": turned_away, "wait_ms": pair(wait, max_wait),
        });
        (asked + turned_away > 0).then_some(of)
    };
    let priorities = Priority::ALL.iter().zip(priorities.iter().zip(&waits.by_priority));
    json!({
        "seconds": rounded(seconds),
        "asked": asked,
        "succeeded": succeeded,
        "failed": failed,
        "cancelled": cancelled,
        "rejected": by_reason(rejected),
        "priorities": named(priorities.map(|(p, of)| (p.as_str(), of_priority(of)))),
        "wait_ms": pair(&waits.wait, max_wait),
        "removed_wait_ms": pair(&waits.removed_wait, max_wait),
        "service_ms": pair(&waits.service_time, None),
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
        "seconds": in_seconds(sample.period),
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
fn of_times(times: &Times, longest: Option<Micros>) -> Value {
    let buckets: Vec<_> = times.buckets().map(|(bucket, n)| json!([bucket, n])).collect();
    json!({
        "p50_ms": ms(within(times.p50, longest)),
        "p99_ms": ms(within(times.p99, longest)),
        "buckets": buckets,
    })
}

/// The counts above 0, by the word of the reason.
fn by_reason<T: Into<u64> + Copy>(counts: [T; Reason::ALL.len()]) -> Value {
    let counts = Reason::ALL.iter().zip(counts);
    named(counts.map(|(reason, count)| {
        let count = count.into();
        (reason.as_str(), (count > 0).then(|| count.into()))
    }))
}

/// An object of the values that are `Some`.
fn named<'a>(values: impl Iterator<Item = (&'a str, Option<Value>)>) -> Value {
    let present = values.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn ms(time: Option<Micros>) -> Option<f64> {
    time.map(|time| rounded(time.as_millis()))
}

/// Never 0, so that rates can be computed.
fn in_seconds(time: Micros) -> f64 {
    rounded(time.as_millis() / 1e3).max(0.001)
}

/// Three digits after the point: microseconds of a time in milliseconds.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
