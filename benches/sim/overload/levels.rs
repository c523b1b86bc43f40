//! Whether the real layer does what the model of it does.

use std::time::Duration;

use crate::{
    case::{Case, Phase},
    catalog,
    contestants::Contestant,
    engine,
    layer::Layered,
    report::Report,
    runs, threads,
};

/// How far apart the levels may be, as a share. They are the same but for when the algorithm is
/// told of the time, and when they notice that somebody is late; chance makes more of that.
const GOODPUT: f64 = 0.02;
const LIMIT: f64 = 0.1;

pub const SEEDS: u64 = 5;

/// Plays these cases on both levels, prints what comes of them, and returns whether they agree.
pub fn compare(cases: &[Case], seeds: u64) -> bool {
    println!(
        "\nThe model (level 1) and the real layer on a paused clock (level 2), \
         medians of {seeds} seeds"
    );
    println!("    {:<24}{:>22}{:>22}", "", "goodput", "mean limit");
    let mut agree = true;
    for case in cases {
        let seeds: Vec<u64> = (1..=seeds).collect();
        let model = threads::map(&seeds, |seed| runs::run(&case.scenario, case.judged, *seed));
        let layer = threads::map(&seeds, |seed| layered(case, case.judged, *seed));
        for phase in &case.phases {
            agree &= compare_phase(case, phase, &model, &layer);
        }
    }
    agree
}

/// The cases that they are compared in.
pub fn cases() -> [Case; 2] {
    [catalog::pool(), catalog::steps()]
}

fn layered(case: &Case, contestant: Contestant, seed: u64) -> Report {
    let scenario = &case.scenario;
    let algorithm = contestant.algorithm(seed, Duration::from_secs_f64(scenario.deadline));
    let front = Layered::new(algorithm, Duration::from_secs_f64(scenario.max_wait()));
    engine::run(scenario, vec![Box::new(front)], seed)
}

fn compare_phase(case: &Case, phase: &Phase, model: &[Report], layer: &[Report]) -> bool {
    let (from, to) = (phase.span.from, phase.span.to);
    let goodput = |reports: &[Report]| median(reports, |report| report.goodput(from, to));
    let limit = |reports: &[Report]| median(reports, |report| report.limit(from, to));
    let goodputs = (goodput(model), goodput(layer));
    let limits = (limit(model), limit(layer));
    let agree = is_near(goodputs, GOODPUT) && is_near(limits, LIMIT);
    println!(
        "    {:<24}{:>9.1}/s {:>9.1}/s{:>11.2} {:>10.2}   {}",
        format!("{} {}", case.name, phase.name),
        goodputs.0,
        goodputs.1,
        limits.0,
        limits.1,
        if agree { "agree" } else { "differ" }
    );
    agree
}

fn median(reports: &[Report], of: impl Fn(&Report) -> f64) -> f64 {
    let mut values: Vec<f64> = reports.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn is_near((one, other): (f64, f64), share: f64) -> bool {
    (one / other - 1.0).abs() <= share
}
