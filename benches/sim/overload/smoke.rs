//! Whether the simulation works at all, in a few seconds.

use crate::{
    case::Case,
    catalog,
    contestants::Contestant,
    cost,
    figures::{Metric, Yardstick},
    levels, runs,
    traffic::Steps,
};

/// Runs short scenarios, prints what is broken, and returns whether nothing is.
pub fn test() -> bool {
    let mut works = true;
    let mut check = |is_so: bool, what: &str| {
        println!("{} {what}", if is_so { "ok:    " } else { "broken:" });
        works &= is_so;
    };
    let [pool, steps] = short();
    let oracle = runs::yardsticks(&pool, 1)[0];
    let formula = pool.scenario.possible(10.0, 20.0);
    check((oracle.goodput / formula - 1.0).abs() < 0.03, "the oracle serves what the formula says");
    check(
        (oracle.backend / 0.02 - 1.0).abs() < 0.03,
        "with the oracle, calls take what they take at rest",
    );
    let goodput = |contestant| goodput(&pool, &oracle, contestant);
    check(goodput(Contestant::Bdp(None)) > 0.95, "Bdp comes near the oracle");
    check(goodput(Contestant::Frozen) < 0.5, "the lowest control serves little");
    check(goodput(Contestant::AlwaysMax) < 0.5, "the highest control serves little in time");
    for contestant in Contestant::field().into_iter().chain(Contestant::CONTROLS) {
        let run = || format!("{:?}", runs::run(&steps.scenario, contestant, 1));
        check(run() == run(), &format!("{}: the same seed gives the same run", contestant.name()));
    }
    check(cost::measure().allocations == 0, "a sample allocates nothing");
    // An algorithm of which chance does not make much in a few seconds.
    let steady = [pool, steps].map(|case| Case { judged: Contestant::LatencyTarget, ..case });
    check(levels::compare(&steady, 1), "the levels agree");
    works
}

/// The first scenario and the one with steps, made short.
fn short() -> [Case; 2] {
    let mut pool = Case::new("A1", "", catalog::pool().scenario);
    pool.scenario.length = 20.0;
    // A highest limit that is harmful in ten seconds.
    pool.scenario.deadline = 0.8;
    let mut steps = Case::new("A7", "", catalog::steps().scenario);
    let power = |at| catalog::steps().scenario.power.at(at);
    steps.scenario.power = Steps(vec![(0.0, power(0.0)), (8.0, power(40.0)), (16.0, power(80.0))]);
    steps.scenario.length = 24.0;
    [pool.from(10.0), steps.phase("16", 2.0, 8.0).phase("down", 8.0, 16.0).phase("up", 16.0, 24.0)]
}

fn goodput(case: &Case, oracle: &Yardstick, contestant: Contestant) -> f64 {
    let report = runs::run(&case.scenario, contestant, 1);
    oracle.measure(&report, case.phases[0].span)[Metric::Goodput]
}
