//! What the waiting line does under overload: the scenarios of `tests/support/scenario`, through
//! the real layer in virtual time.
//!
//! ```sh
//! cargo bench -p sim --bench waiting_line             # all, some three minutes
//! cargo bench -p sim --bench waiting_line -- --test   # a smoke test
//! ```
//!
//! All figures are ratios to what 16 servers can do, or times in the virtual clock: the same on
//! every machine.

#[path = "../../tests/support/scenario/mod.rs"]
mod scenario;

use std::time::Duration;

use scenario::{
    catalog::{self, FLOOR},
    report::Report,
    traffic::SERVERS,
};
use tower_load_leveling::{Order, Priority};

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// How a figure is to be.
enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison.
    Shown,
}
use Bar::{AtLeast, AtMost, Shown};

struct Table {
    seeds: Vec<u64>,
    length: Duration,
}

/// A figure to be taken of each run.
type Figure = (&'static str, Bar, fn(&Report) -> f64);

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let table = match test {
        true => Table { seeds: vec![1], length: Duration::from_secs(2) },
        false => Table { seeds: SEEDS.to_vec(), length: Duration::from_secs(60) },
    };
    println!(
        "{SERVERS} servers, exponential 20 ms; seeds {:?}, {:?} each after 2 s",
        table.seeds, table.length
    );
    println!("{:<50}{:<26}{:>9}{:>9}", "", "", "median", "worst");
    let length = table.length;
    for load in [1.2, 2.0, 10.0] {
        let p99 = if load < 2.0 { Shown } else { AtMost(1.05) };
        table.row(
            &format!("{load} × capacity, newest first when it stands"),
            [
                ("goodput", AtLeast(0.995), goodput),
                ("p99 ÷ 92.1 ms", p99, |report| report.all().p99() / FLOOR),
                ("wasted work", AtMost(0.001), Report::waste),
            ],
            |seed| catalog::overload(load, Order::AdaptiveLifo, true, seed, length),
        );
        table.row(
            "   … and callers who do not tell",
            [("goodput", AtLeast(0.992), goodput)],
            |seed| catalog::overload(load, Order::AdaptiveLifo, false, seed, length),
        );
        table.row(
            "   … oldest first",
            [
                // The two seconds of a smoke test say it less well.
                ("goodput", AtLeast(if test { 0.99 } else { 0.995 }), goodput),
                ("p99 ÷ 92.1 ms", Shown, |report| report.all().p99() / FLOOR),
                // A call sent with x mean service times left is in vain with probability e⁻ˣ, and
                // costs x of them: an oracle that knows the distribution alone wastes x·e⁻ˣ, a
                // thousandth at 9.1, and next to nothing at 15. While more is asked for than can be
                // done, that costs no goodput.
                ("wasted work", AtMost(0.001), Report::waste),
            ],
            |seed| catalog::overload(load, Order::Fifo, true, seed, length),
        );
    }
    if !test {
        for (name, limit, protected, bar) in [
            ("outage, limit 16", 16, true, AtMost(0.5)),
            ("outage, limit 1000", 1000, true, AtMost(0.5)),
            ("outage, plain queue without wait limit", 16, false, Shown),
        ] {
            let recovery = |seed: &u64| {
                let time = catalog::recovery(limit, protected, *seed);
                time.map_or(f64::INFINITY, |time| time.as_secs_f64())
            };
            print_row(name, "seconds to recover", &bar, table.seeds.iter().map(recovery).collect());
        }
    }
    table.row(
        "one flow at 5 ×, 20 at 2 %",
        [
            ("small ones served", AtLeast(0.9995), |report| report.first(20).share_served()),
            ("their p99 ÷ 92.1 ms", AtMost(1.05), |report| report.first(20).p99() / FLOOR),
            ("goodput", Shown, goodput),
        ],
        |seed| catalog::elephant(seed, length),
    );
    table.row(
        "   … below a higher priority at 5 %",
        [
            ("small ones served", AtLeast(0.999), |report| report.first(20).share_served()),
            ("their p99 ÷ 92.1 ms", Shown, |report| report.first(20).p99() / FLOOR),
            ("goodput", Shown, goodput),
        ],
        |seed| catalog::elephant_below(seed, length),
    );
    table.row(
        "two flows at 2 ×, 5 ms and 100 ms",
        [("Jain index of time", AtLeast(0.999), Report::jain)],
        |seed| catalog::unequal_work(seed, length),
    );
    for (name, work, capacity) in [
        ("weights 1 : 2 : 4, each at 2 ×", [20; 3], 8192),
        ("   … capacity 64", [20; 3], 64),
        ("   … requests of 40, 5 and 20 ms", [40, 5, 20], 8192),
    ] {
        table.row(
            name,
            [
                ("worst off its share of time", AtMost(0.01), |report| {
                    report.off_weights(&catalog::WEIGHTS)
                }),
                ("goodput", Shown, goodput),
            ],
            |seed| catalog::weights(work, capacity, seed, length),
        );
    }
    // Its callers wait for 5 s.
    let length = length.max(Duration::from_secs(20));
    for (name, limited, tenant, others) in [
        ("slow flow at 5 ×, ten at 4 %, flow limit 4", true, Priority::Normal, Priority::Normal),
        ("   … the slow one of a higher priority", true, Priority::High, Priority::Background),
        ("   … no flow limit", false, Priority::Normal, Priority::Normal),
    ] {
        let bar = |bar: f64| if limited { AtLeast(bar) } else { Shown };
        let p99 = if limited { AtMost(1.1) } else { Shown };
        table.row(
            name,
            [
                ("the ten served", bar(0.9999), |report| report.first(10).share_served()),
                ("their p99 ÷ 92.1 ms", p99, |report| report.first(10).p99() / FLOOR),
            ],
            |seed| catalog::slow_tenant(limited, [tenant, others], 64, seed, length),
        );
    }
    table.row(
        "4 flows at 1 ×, 200 at 0.1 %",
        [("worst of the 200 served", AtLeast(0.99), |report| report.worst_of(200))],
        |seed| catalog::many_small(seed, length),
    );
    table.row(
        "priorities at 0.5, 1 and 1.5 ×",
        [
            ("highest served", AtLeast(0.9999), |report| report.by_source[0].share_served()),
            ("share of the highest", Shown, |report| report.part_of(0, SERVERS)),
            ("share of the next", AtLeast(0.05), |report| report.part_of(1, SERVERS)),
            ("share of the lowest", AtLeast(0.05), |report| report.part_of(2, SERVERS)),
            ("overtaking by the lowest", AtMost(0.055), |report| {
                report.overtook[3].1.as_secs_f64() / (report.length.as_secs_f64() * SERVERS as f64)
            }),
        ],
        |seed| catalog::priorities(0.05, seed, length),
    );
    table.row(
        "   … and no guaranteed share",
        [("inversions", AtMost(0.0), |report| {
            report.overtook.iter().map(|(count, _)| *count as f64).sum()
        })],
        |seed| catalog::priorities(0.0, seed, length),
    );
    for capacity in [256, 8192] {
        table.row(
            &format!("100 000 invented flows at 5 ×, capacity {capacity}"),
            [
                ("20 honest ones served", AtLeast(0.999), |report| report.first(20).share_served()),
                ("their p99 ÷ 92.1 ms", Shown, |report| report.first(20).p99() / FLOOR),
                ("goodput", Shown, goodput),
            ],
            |seed| catalog::invented(capacity, seed, length),
        );
    }
}

fn goodput(report: &Report) -> f64 {
    report.goodput(SERVERS)
}

impl Table {
    fn row<const N: usize>(&self, name: &str, figures: [Figure; N], play: impl Fn(u64) -> Report) {
        let reports: Vec<_> = self.seeds.iter().map(|seed| play(*seed)).collect();
        let mut name = name;
        for (what, bar, figure) in figures {
            print_row(name, what, &bar, reports.iter().map(figure).collect());
            name = "";
        }
    }
}

fn print_row(name: &str, what: &str, bar: &Bar, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let (least, most) = (values[0], values[values.len() - 1]);
    let (worst, verdict) = match bar {
        AtLeast(bar) => (least, format!("at least {bar}: {}", verdict(median >= *bar))),
        AtMost(bar) => (most, format!("at most {bar}: {}", verdict(median <= *bar))),
        Shown => (most, String::new()),
    };
    println!("{name:<50}{what:<26}{median:>9.4}{worst:>9.4}  {verdict}");
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
