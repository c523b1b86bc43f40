//! The results, side by side.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Result,
    client::Outcome,
    contenders::Contender,
    gauge::{self, Look},
    plan::{Plan, SETTLE},
    run::Run,
};

/// The bound on the difference of two measurements of the database, as a share of the lower rate;
/// and on the share of the needed cores taken by other programs.
const STEADY: f64 = 0.2;
/// The number of cores needed: a core for the writer, and a core for client and server.
const CORES: usize = 2;

pub(crate) fn print(runs: &[Run], plan: &Plan) {
    let [before, flood, after] = [plan.before(), plan.flood(), plan.after()];
    println!();
    row("", runs, |run| run.contender.name().to_owned());
    println!("the calm before");
    row("p50 of the answered", runs, |run| milliseconds(run.latency(0.5, &before)));
    println!(
        "the flood, {:.0} s of ten times what the database can do",
        plan.phases[1].1.as_secs_f64()
    );
    row("answered in time, a second", runs, |run| format!("{:.0}", run.goodput(&flood)));
    row("  of what is possible", runs, |run| percent(run.goodput(&flood) / run.possible));
    row("p50 of the answered", runs, |run| milliseconds(run.latency(0.5, &flood)));
    row("p99 of the answered", runs, |run| milliseconds(run.latency(0.99, &flood)));
    let reasons: BTreeSet<_> =
        runs.iter().flat_map(|run| run.refusals(&flood).into_keys()).collect();
    for reason in reasons {
        let of = |run: &Run| run.refusals(&flood).get(reason).copied().unwrap_or(0).to_string();
        row(&format!("refused: {reason}"), runs, of);
    }
    let timed_out = |outcome: &Outcome| *outcome == Outcome::TimedOut;
    row("clients that gave up", runs, |run| run.count(&flood, timed_out).to_string());
    row("errors", runs, |run| run.count(&(Duration::ZERO..Duration::MAX), is_error).to_string());
    println!("the calm after");
    row("answered in time", runs, |run| percent(run.share(&after)));
    row("p50 of the answered", runs, |run| milliseconds(run.latency(0.5, &after)));
    println!("all together");
    row("orders stored", runs, |run| run.stored.len().to_string());
    row("  for clients long gone", runs, |run| run.wasted().count().to_string());
    row("most at once in the database", runs, |run| run.peak.to_string());
    row("busy after the last client", runs, |run| {
        let more = if run.settled >= SETTLE { "more than " } else { "" };
        format!("{more}{:.1} s", run.settled.as_secs_f64())
    });
    row("accepted orders lost, doubled", runs, |run| {
        let mistakes = run.mistakes();
        format!("{}, {}", mistakes.lost, mistakes.doubled)
    });
}

/// Prints and returns whether the machine was quiet: whether all measurements of the database are
/// alike, and found the cores free.
pub(crate) fn is_quiet(looks: &[Look]) -> bool {
    let list = |of: &dyn Fn(&Look) -> String| looks.iter().map(of).collect::<Vec<_>>().join(", ");
    let all = gauge::cores();
    println!(
        "\nBefore, between and after, the database alone did {} a second,\n\
         and of the {all} cores {} were free.",
        list(&|look| format!("{:.0}", look.orders)),
        list(&|look| format!("{:.1}", look.cores)),
    );
    let least = |of: fn(&Look) -> f64| looks.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = looks.iter().map(|look| look.orders).fold(0.0, f64::max);
    let moved = most / least(|look| look.orders) - 1.0;
    let free = least(|look| look.cores);
    let mut signs = Vec::new();
    if moved > STEADY {
        signs.push(format!("what the database can do moved by {:.0} %", moved * 1e2));
    }
    if free < (1.0 - STEADY) * all.min(CORES) as f64 {
        signs.push(format!("something else ran, and left {free:.1} of {all} cores"));
    }
    if !signs.is_empty() {
        println!(
            "The machine was busy: {}. So THESE NUMBERS DO NOT COUNT. \
             With nothing else running,\n\n\
             \x20   cargo run --release -p flood -- --repeat\n\n\
             tries up to three times until the machine is quiet.",
            signs.join(", and ")
        );
    }
    signs.is_empty()
}

/// Checks the promises: no order lost, doubled, or refused and stored all the same; and no errors
/// with load leveling.
pub(crate) fn check(runs: &[Run]) -> Result<()> {
    for run in runs {
        let mistakes = run.mistakes();
        if mistakes.lost + mistakes.doubled + mistakes.stored_though_refused > 0 {
            return Err(format!(
                "{}: {} accepted orders lost, {} doubled, {} refused and stored",
                run.contender.name(),
                mistakes.lost,
                mistakes.doubled,
                mistakes.stored_though_refused
            )
            .into());
        }
    }
    let leveled = runs.iter().filter(|run| run.contender == Contender::Leveled);
    let mut errors =
        leveled.flat_map(|run| &run.answers).filter(|answer| is_error(&answer.outcome));
    match errors.next() {
        Some(first) => {
            Err(format!("errors with load leveling, such as {:?}", first.outcome).into())
        }
        None => {
            println!("Every accepted order is in the database exactly once.");
            Ok(())
        }
    }
}

fn is_error(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

fn row(what: &str, runs: &[Run], of: impl Fn(&Run) -> String) {
    print!("  {what:<32}");
    for run in runs {
        print!("{:>16}", of(run));
    }
    println!();
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 1e2)
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("–".into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
}
