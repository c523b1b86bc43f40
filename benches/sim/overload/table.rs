//! Prints what came of a case, and keeps the score.

use crate::{
    case::{Bar, Case, Phase, median, worst},
    contestants::Contestant,
    figures::{
        Figures,
        Metric::{self, Bloat, Goodput, Limit, Settled},
        Yardstick,
    },
    oracle::Oracle,
    runs::Results,
};

/// How many bars are met, and what is to be said at the end.
#[derive(Debug, Default)]
pub struct Score {
    pub met: usize,
    pub missed: Vec<String>,
    /// Scenarios that test nothing.
    pub empty: Vec<String>,
}

impl Score {
    pub fn print(&self) {
        let Self { met, missed, empty } = self;
        println!("\n{met} bars met, {} missed", missed.len());
        missed.iter().for_each(|line| println!("    {line}"));
        if !empty.is_empty() {
            println!("{} scenarios that test nothing:", empty.len());
            empty.iter().for_each(|line| println!("    {line}"));
        }
    }
}

pub fn print(case: &Case, results: &Results, score: &mut Score) {
    println!("\n{}  {}", case.name, case.about);
    for (place, phase) in case.phases.iter().enumerate() {
        print_oracle(case, phase, &results.oracle[place]);
        let columns = columns(case);
        let titles = columns.iter().map(|metric| format!("{:>19}", metric.title()));
        println!("    {:<24}{}{:>11}", "", titles.collect::<String>(), "below 0.8");
        if !phase.bars.is_empty() {
            let bars = columns.iter().map(|metric| format!("{:>19}", bar_of(phase, *metric)));
            println!("    {:<24}{}", "bars", bars.collect::<String>());
        }
        for (contestant, phases) in &results.of {
            let runs = &phases[place];
            let cells = columns.iter().map(|metric| cell(*metric, runs));
            let cells = cells.collect::<String>();
            let (name, lost) = (contestant.name(), lost(runs));
            println!("    {name:<24}{cells}{lost:>9.0} %   {}", verdict(phase, runs));
            keep_score(case, phase, *contestant, runs, score);
        }
    }
    check_controls(case, results, score);
}

fn columns(case: &Case) -> Vec<Metric> {
    [Goodput, Bloat, Settled, Limit].into_iter().chain(case.also).collect()
}

fn print_oracle(case: &Case, phase: &Phase, oracle: &Yardstick) {
    let (scenario, span) = (&case.scenario, phase.span);
    let name = match case.oracle {
        Oracle::Knee => "a limit at the knee",
        Oracle::NoLimit => "no limit",
        Oracle::AtRest => "the formula",
    };
    let title = if phase.name.is_empty() { String::new() } else { format!("{}, ", phase.name) };
    print!("  {title}{} to {} s. Oracle is {name}: {:.0}/s", span.from, span.to, oracle.goodput);
    // Where the load changes, what waits makes up for some of it.
    if scenario.rate.0.len() == 1 && case.oracle != Oracle::AtRest {
        print!(" ({:.0}/s by formula)", scenario.possible(span.from, span.to));
    }
    println!(", backend {:.1} ms; needed is {:.0}", oracle.backend * 1e3, oracle.needed);
}

fn bar_of(phase: &Phase, metric: Metric) -> String {
    let bars = phase.bars.iter().filter(|bar| bar.metric == metric).map(Bar::print);
    bars.collect::<Vec<_>>().join(", ")
}

/// The median, and the worst seed.
fn cell(metric: Metric, runs: &[Figures]) -> String {
    let (median, worst) = (median(metric, runs), worst(metric, runs));
    format!("{:>9} {:<9}", metric.print(median), format!("({})", metric.print(worst)))
}

/// The share of runs below 0.8 of the oracle's goodput, in percent.
fn lost(runs: &[Figures]) -> f64 {
    let lost = runs.iter().filter(|run| run[Goodput] < 0.8).count();
    100.0 * lost as f64 / runs.len() as f64
}

fn verdict(phase: &Phase, runs: &[Figures]) -> String {
    if phase.bars.is_empty() {
        return String::new();
    }
    let missed = phase.bars.iter().filter(|bar| !bar.is_met(runs));
    let missed: Vec<&str> = missed.map(|bar| bar.metric.title()).collect();
    if missed.is_empty() { "met".to_owned() } else { format!("missed: {}", missed.join(", ")) }
}

fn keep_score(
    case: &Case,
    phase: &Phase,
    contestant: Contestant,
    runs: &[Figures],
    score: &mut Score,
) {
    let is_judged = contestant == case.judged || matches!(contestant, Contestant::Bdp(Some(_)));
    for bar in phase.bars.iter().filter(|_| is_judged) {
        if bar.is_met(runs) {
            score.met += 1;
        } else {
            let is = median(bar.metric, runs);
            score.missed.push(format!(
                "{} {} {}: {} {:.3} is not {}, worst seed {}",
                case.name,
                phase.name,
                contestant.name(),
                bar.metric.title(),
                is,
                bar.print(),
                bar.metric.print(worst(bar.metric, runs))
            ));
        }
    }
}

/// A control that meets all bars of all phases shows that these do not ask for anything.
fn check_controls(case: &Case, results: &Results, score: &mut Score) {
    for (contestant, phases) in &results.of {
        let passes = || {
            let of = case.phases.iter().zip(phases);
            of.into_iter().all(|(phase, runs)| phase.bars.iter().all(|bar| bar.is_met(runs)))
        };
        if contestant.is_control() && passes() {
            let line = format!("{} is passed by a {}", case.name, contestant.name());
            println!("  {line}: it tests nothing");
            score.empty.push(line);
        }
    }
}
