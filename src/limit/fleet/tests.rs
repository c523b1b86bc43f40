use std::time::Duration;

use super::{figures::Figures, play::Fleet};
use crate::limit::{fixed::Fixed, latency_target::LatencyTarget, testing::ms};

const TARGET: Duration = Duration::from_millis(30);

fn eight_on_64_servers_join_one_by_one() -> Fleet {
    Fleet {
        servers: 64,
        service: ms(20),
        replicas: 8,
        stagger: Duration::from_secs(5),
        load: 2.0,
        warm_up: Duration::from_secs(40),
        measured: Duration::from_secs(50),
    }
}

fn sixty_four_on_16_servers() -> Fleet {
    Fleet { servers: 16, replicas: 64, stagger: ms(100), ..eight_on_64_servers_join_one_by_one() }
}

fn median(all: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn play(fleet: Fleet, seeds: u64) -> Vec<Figures> {
    let play = |seed| {
        let figures = fleet.play(seed, || LatencyTarget::new(TARGET));
        let Figures { goodput, latency, .. } = figures;
        let (sum, fairness) = (figures.sum_of_limits(), figures.fairness());
        println!(
            "seed {seed}: goodput {goodput:.3}, latency × {latency:.3}, \
             sum of limits {sum:.1}, Jain's index {fairness:.3}"
        );
        figures
    };
    (1..=seeds).map(play).collect()
}

fn eight_share_evenly(seeds: u64) {
    let all = play(eight_on_64_servers_join_one_by_one(), seeds);
    let sum = median(&all, Figures::sum_of_limits);
    assert!(sum <= 1.6 * 64.0, "limits are not to add up to {sum}");
    let fairness = median(&all, Figures::fairness);
    assert!(fairness >= 0.97, "shares should be even, not {fairness}");
    let goodput = median(&all, |figures| figures.goodput);
    assert!(goodput >= 0.99, "servers should be busy, not at {goodput}");
}

fn sixty_four_do_not_crowd_sixteen_servers(seeds: u64) {
    let all = play(sixty_four_on_16_servers(), seeds);
    let latency = median(&all, |figures| figures.latency);
    assert!(latency <= 1.7, "calls should not take {latency} times as long");
    let goodput = median(&all, |figures| figures.goodput);
    assert!(goodput >= 0.93, "servers should be busy, not at {goodput}");
}

#[test]
fn replicas_that_join_one_by_one_share_evenly() {
    eight_share_evenly(3);
}

#[test]
fn more_replicas_than_servers_do_not_crowd_them() {
    sixty_four_do_not_crowd_sixteen_servers(3);
}

#[test]
#[ignore = "more seeds of the two above: half a minute without optimizations"]
fn ten_seeds() {
    eight_share_evenly(10);
    sixty_four_do_not_crowd_sixteen_servers(10);
}

#[test]
fn fleet_obeys_the_law_of_little() {
    let fleet = Fleet {
        replicas: 4,
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(10),
        stagger: Duration::ZERO,
        ..sixty_four_on_16_servers()
    };
    for (limit, latency) in [(4, 1.0), (8, 2.0), (12, 3.0)] {
        let figures = fleet.play(1, || Fixed::new(limit));
        assert!((figures.goodput - 1.0).abs() < 0.03, "{figures:?}");
        assert!((figures.latency / latency - 1.0).abs() < 0.03, "{figures:?}");
        assert!((figures.fairness() - 1.0).abs() < 1e-9, "{figures:?}");
    }
}
