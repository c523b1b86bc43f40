//! One case, with everybody who runs in it.

use std::time::Duration;

use tower_load_leveling::limit::Algorithm;

use crate::{
    case::{Case, Phase},
    contestants::Contestant,
    engine,
    figures::{Figures, Yardstick},
    front::{Front, Modelled},
    oracle::Oracle,
    report::Report,
    scenario::Scenario,
    threads,
};

/// What came of a case.
pub struct Results {
    /// For each phase, of the first seed.
    pub oracle: Vec<Yardstick>,
    pub of: Vec<(Contestant, Vec<Vec<Figures>>)>,
}

/// How many seeds those are run with who are not judged: they are shown, and far from any bar.
const SEEDS_OF_OTHERS: u64 = 3;
const SEEDS_OF_CONTROLS: u64 = 2;

/// Runs all of them, with seeds from 1 on. Each seed gives everybody the same arrivals and the same
/// work.
pub fn all(case: &Case) -> Results {
    let contestants = contestants(case);
    let oracles = threads::map(&seeds(case.seeds), |seed| yardsticks(case, *seed));
    let seeds_of = |contestant: Contestant| match contestant {
        _ if contestant.is_control() => SEEDS_OF_CONTROLS,
        // It starts elsewhere, and is judged as well.
        Contestant::Bdp(Some(_)) => case.seeds,
        _ if contestant == case.judged => case.seeds,
        _ => SEEDS_OF_OTHERS,
    };
    let jobs: Vec<(Contestant, u64)> = contestants
        .iter()
        .flat_map(|one| seeds(seeds_of(*one)).into_iter().map(move |seed| (*one, seed)))
        .collect();
    let runs = threads::map(&jobs, |(contestant, seed)| {
        let report = run(&case.scenario, *contestant, *seed);
        let oracle = &oracles[*seed as usize - 1];
        let phases = case.phases.iter().zip(oracle);
        phases.map(|(phase, oracle)| oracle.measure(&report, phase.span)).collect::<Vec<_>>()
    });
    let mut of: Vec<(Contestant, Vec<Vec<Figures>>)> =
        contestants.iter().map(|one| (*one, vec![Vec::new(); case.phases.len()])).collect();
    for ((contestant, _), run) in jobs.iter().zip(runs) {
        let (_, phases) = of.iter_mut().find(|(one, _)| one == contestant).expect("one of them");
        phases.iter_mut().zip(run).for_each(|(phase, figures)| phase.push(figures));
    }
    Results { oracle: oracles[0].clone(), of }
}

fn contestants(case: &Case) -> Vec<Contestant> {
    let starts = case.starts.iter().map(|start| Contestant::Bdp(Some(*start)));
    let beside = case.beside.iter().copied().filter(|one| *one != case.judged);
    let asks = case.phases.iter().any(|phase| !phase.bars.is_empty());
    let controls = case.controls.iter().copied().filter(|_| asks);
    [case.judged].into_iter().chain(starts).chain(beside).chain(controls).collect()
}

fn seeds(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

/// What the oracle reaches in each phase.
pub fn yardsticks(case: &Case, seed: u64) -> Vec<Yardstick> {
    let scenario = &case.scenario;
    if case.oracle == Oracle::AtRest {
        return case.phases.iter().map(|phase| at_rest(scenario, phase)).collect();
    }
    let report = play(scenario, seed, |_| case.oracle.algorithm(scenario));
    let of = |phase: &Phase| {
        let needed = phase.needed.unwrap_or_else(|| scenario.knee(phase.span.from));
        Yardstick::of(&report, phase.span, needed)
    };
    case.phases.iter().map(of).collect()
}

fn at_rest(scenario: &Scenario, phase: &Phase) -> Yardstick {
    let from = phase.span.from;
    Yardstick {
        goodput: scenario.possible(from, phase.span.to),
        backend: scenario.power.at(from).service + 2.0 * scenario.distance,
        p99: f64::NAN,
        needed: scenario.knee(from),
    }
}

/// Runs a scenario with such an algorithm in each of its levelers.
pub fn run(scenario: &Scenario, contestant: Contestant, seed: u64) -> Report {
    let deadline = Duration::from_secs_f64(scenario.deadline);
    let levelers = scenario.joins.len() as u64;
    let own = |leveler: u64| contestant.algorithm(seed * levelers + leveler, deadline);
    play(scenario, seed, own)
}

fn play(scenario: &Scenario, seed: u64, own: impl Fn(u64) -> Box<dyn Algorithm>) -> Report {
    let max_wait = Duration::from_secs_f64(scenario.max_wait());
    let model = |leveler: u64| Box::new(Modelled::new(own(leveler), max_wait)) as Box<dyn Front>;
    let fronts = (0..scenario.joins.len() as u64).map(model).collect();
    engine::run(scenario, fronts, seed)
}
