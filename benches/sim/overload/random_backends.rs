//! Backends that chance has drawn: how often the limit is lost, and how bad the worst is.

use sim::random::Random;

use crate::{
    backend::{Power, Shape},
    case::Case,
    contestants::Contestant,
    figures::Metric::Goodput,
    runs,
    scenario::Scenario,
    threads,
    traffic::{Steps, Work},
};

/// Prints the median goodput over so many backends, the lowest tenth, the worst, and the share
/// below 0.8, for each of these.
pub fn print(contestants: &[Contestant], count: u64) {
    println!("\nrandom backends: {count} of them, one seed each, from cold, a minute");
    let numbers: Vec<u64> = (1..=count).collect();
    let yardsticks = threads::map(&numbers, |number| runs::yardsticks(&draw(*number), *number)[0]);
    for contestant in contestants {
        let goodput = |number: &u64| {
            let case = draw(*number);
            let oracle = yardsticks[*number as usize - 1];
            let report = runs::run(&case.scenario, *contestant, *number);
            oracle.measure(&report, case.phases[0].span)[Goodput]
        };
        let mut all = threads::map(&numbers, goodput);
        all.sort_by(f64::total_cmp);
        let lost = all.iter().filter(|goodput| **goodput < 0.8).count();
        let share = 100.0 * lost as f64 / all.len() as f64;
        let (tenth, median) = (all[all.len() / 10], all[all.len() / 2]);
        println!(
            "    {:<24} median {median:.3}, tenth {tenth:.3}, worst {:.3}, \
             below 0.8: {lost} ({share:.1} %)",
            contestant.name(),
            all[0],
        );
    }
}

/// A pool, or one of contention, as wide, as quick, as far and as busy as chance has it: all evenly
/// by their logarithm.
fn draw(number: u64) -> Case {
    let mut random = Random::stream(number, 4);
    let mut between = |from: f64, to: f64| from * (to / from).powf(random.uniform());
    let (width, service) = (between(5.0, 150.0).round(), between(0.005, 0.17));
    let (cv2, distance) = (between(0.1, 5.0), between(0.001, 0.15));
    let (load, is_pool) = (between(1.3, 9.0), between(0.5, 2.0) > 1.0);
    let distance = if between(0.5, 2.0) > 1.0 { distance } else { 0.0 };
    let shape = if is_pool {
        Shape::Pool { servers: width }
    } else {
        // Half of what is lost at the best point is contention.
        let sigma = 0.5 / width;
        Shape::Contention { sigma, kappa: (1.0 - sigma) / (width * width) }
    };
    let power = Power { shape, service };
    let scenario = Scenario {
        length: 60.0,
        rate: Steps::always(load * power.capacity()),
        work: Steps::always(Work::Varied { cv2 }),
        distance,
        deadline: (50.0 * (service + 2.0 * distance)).max(1.0),
        ..Scenario::of(power)
    };
    Case::new("R", "", scenario).from(0.0)
}
