//! What happened, side by side.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};
use tower_load_leveling::Handle;

use crate::{
    Plan, Result, SETTLE,
    client::{Answer, Outcome},
    store::{Books, Store},
};

pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) answers: Vec<Answer>,
    pub(crate) timeline: Vec<Moment>,
    /// How long the database went on after the last client had gone.
    pub(crate) settled: Duration,
    pub(crate) books: Books,
    pub(crate) peak: usize,
}

/// How things stood at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) stored: usize,
}

/// Looks at the run, many times a second.
pub(crate) struct Watch {
    moments: Arc<Mutex<Vec<Moment>>>,
    task: AbortHandle,
}

pub(crate) const EVERY: Duration = Duration::from_millis(50);

impl Watch {
    pub(crate) fn start(store: Store, handle: Option<Handle>) -> Self {
        let moments = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let moments = Arc::clone(&moments);
            async move {
                let start = Instant::now();
                let mut ticks = tokio::time::interval(EVERY);
                loop {
                    ticks.tick().await;
                    let moment = Moment {
                        at: start.elapsed(),
                        queued: handle.as_ref().map_or(0, |handle| handle.stats().queued),
                        in_flight: store.inside(),
                        stored: store.stored(),
                    };
                    lock(&moments).push(moment);
                }
            }
        });
        Self { moments, task: task.abort_handle() }
    }

    pub(crate) fn stop(self) -> Vec<Moment> {
        self.task.abort();
        std::mem::take(&mut *lock(&self.moments))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The counts over some stretch of time.
struct Counts {
    offered: usize,
    accepted: usize,
    refused: BTreeMap<String, usize>,
    failed: usize,
    timed_out: usize,
    latencies: Vec<Duration>,
}

impl Counts {
    fn of(run: &Run, time: &Range<Duration>) -> Self {
        let mut counts = Self {
            offered: 0,
            accepted: 0,
            refused: BTreeMap::new(),
            failed: 0,
            timed_out: 0,
            latencies: Vec::new(),
        };
        for answer in run.answers.iter().filter(|answer| time.contains(&answer.sent)) {
            counts.offered += 1;
            match &answer.outcome {
                Outcome::Accepted => {
                    counts.accepted += 1;
                    counts.latencies.push(answer.took);
                }
                Outcome::Refused(reason) => {
                    *counts.refused.entry(reason.clone()).or_default() += 1;
                }
                Outcome::Failed(_) => counts.failed += 1,
                Outcome::TimedOut => counts.timed_out += 1,
            }
        }
        counts.latencies.sort();
        counts
    }

    fn refused(&self) -> usize {
        self.refused.values().sum()
    }

    fn quantile(&self, q: f64) -> String {
        let rank = (self.latencies.len() as f64 * q) as usize;
        let latency = self.latencies.get(rank.min(self.latencies.len().saturating_sub(1)));
        latency.map_or("–".into(), |latency| format!("{:.0} ms", latency.as_secs_f64() * 1e3))
    }

    fn share(&self) -> f64 {
        self.accepted as f64 / self.offered.max(1) as f64
    }
}

pub(crate) fn print(runs: &[Run; 2], plan: &Plan) {
    let whole = Duration::ZERO..Duration::MAX;
    let flood = plan.flood();
    let after = flood.end..Duration::MAX;
    println!("\n{:<36}{:>16}{:>16}", "", runs[0].name, runs[1].name);
    section("the whole run", runs, &whole);
    let stored = runs.each_ref().map(|run| run.books.0.len().to_string());
    row("orders stored", &stored);
    row("  of them for clients long gone", &runs.each_ref().map(|run| wasted(run).to_string()));
    row("most at once in the database", &runs.each_ref().map(|run| run.peak.to_string()));
    let settled = runs.each_ref().map(|run| {
        let more = if run.settled >= SETTLE { "more than " } else { "" };
        format!("{more}{:.0} s", run.settled.as_secs_f64())
    });
    row("busy on after the last client", &settled);
    section("the flood", runs, &flood);
    section("after the flood", runs, &after);
}

fn section(title: &str, runs: &[Run; 2], time: &Range<Duration>) {
    let counts = runs.each_ref().map(|run| Counts::of(run, time));
    println!("{title}");
    row("offered", &counts.each_ref().map(|counts| counts.offered.to_string()));
    let answered = |counts: &Counts| format!("{} ({:.1} %)", counts.accepted, counts.share() * 1e2);
    row("answered in time", &counts.each_ref().map(answered));
    row("refused at once or while waiting", &counts.each_ref().map(|c| c.refused().to_string()));
    let mut reasons: Vec<_> = counts.iter().flat_map(|counts| counts.refused.keys()).collect();
    reasons.sort();
    reasons.dedup();
    for reason in reasons {
        let of = |counts: &Counts| counts.refused.get(reason).copied().unwrap_or(0).to_string();
        row(&format!("  {reason}"), &counts.each_ref().map(of));
    }
    row("errors", &counts.each_ref().map(|counts| counts.failed.to_string()));
    row("timed out", &counts.each_ref().map(|counts| counts.timed_out.to_string()));
    row("p50 of the answered", &counts.each_ref().map(|counts| counts.quantile(0.5)));
    row("p99 of the answered", &counts.each_ref().map(|counts| counts.quantile(0.99)));
}

fn row(what: &str, values: &[String; 2]) {
    println!("  {what:<34}{:>16}{:>16}", values[0], values[1]);
}

fn wasted(run: &Run) -> usize {
    let accepted: HashSet<_> = numbers(run, |outcome| *outcome == Outcome::Accepted).collect();
    run.books.0.iter().filter(|number| !accepted.contains(number)).count()
}

fn numbers(run: &Run, which: impl Fn(&Outcome) -> bool) -> impl Iterator<Item = u64> {
    run.answers.iter().filter(move |answer| which(&answer.outcome)).map(|answer| answer.number)
}

/// Checks the promises: nothing lost, nothing doubled, nothing refused and stored all the same; and
/// with the layer no errors.
pub(crate) fn verdict(runs: &[Run; 2]) -> Result<()> {
    for run in runs {
        let mut stored: HashMap<u64, usize> = HashMap::new();
        run.books.0.iter().for_each(|number| *stored.entry(*number).or_default() += 1);
        let is_stored = |number: &u64| stored.contains_key(number);
        let lost = numbers(run, |outcome| *outcome == Outcome::Accepted)
            .filter(|number| !is_stored(number))
            .count();
        let doubled = stored.values().filter(|times| **times > 1).count();
        let refused = numbers(run, |outcome| matches!(outcome, Outcome::Refused(_)));
        let started = refused.filter(is_stored).count();
        println!(
            "{}: {lost} accepted orders lost, {doubled} doubled, {started} refused and stored",
            run.name
        );
        if lost + doubled + started > 0 {
            return Err(format!("the books of the run {:?} do not balance", run.name).into());
        }
    }
    let errors: Vec<_> = runs[1]
        .answers
        .iter()
        .filter(|answer| matches!(answer.outcome, Outcome::Failed(_)))
        .map(|answer| &answer.outcome)
        .collect();
    match errors.first() {
        Some(first) => {
            Err(format!("{} errors with the layer, such as {first:?}", errors.len()).into())
        }
        None => Ok(()),
    }
}
