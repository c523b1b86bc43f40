//! What one call costs: through this layer, through what one would use instead, and through the
//! bare shape of a queue in front of a task.
//!
//! ```sh
//! cargo bench -p measure --bench overhead                # all, some two minutes
//! cargo bench -p measure --bench overhead -- ratios      # the main contenders, in many situations
//! cargo bench -p measure --bench overhead -- queue       # the same with fewer slots than callers
//! cargo bench -p measure --bench overhead -- peers       # every contender, in two situations
//! cargo bench -p measure --bench overhead -- peers draw  # and docs/images/overhead.svg anew
//! cargo bench -p measure --bench overhead -- refusal     # a refusal, and `layer()`
//! cargo bench -p measure --bench overhead -- contention  # up to 8 threads at one leveler
//! cargo bench -p measure --bench overhead -- wakeups     # how often tasks are polled for a call
//! cargo bench -p measure --bench overhead -- --test      # a smoke test, some seconds
//! ```
//!
//! Several names may be given. The results are the **ratios**: the contenders take turns in many
//! short rounds, and each ratio is the median of those within a round. The times beside them depend
//! on the machine and its mood. The bars are what we want; what is missed is missed.

mod bars;
mod contenders;
mod contention;
mod drive;
mod floor;
mod load;
mod peers;
mod picture;
mod queue;
mod ratios;
mod refusal;
mod rounds;
mod wakeups;
mod work;

use crate::{bars::Bars, rounds::Scale};

/// One table, or two, and the bars that they set.
type Part = fn(Scale, &mut Bars);

const PARTS: [(&str, Part); 6] = [
    ("ratios", ratios::print),
    ("queue", queue::print),
    ("peers", peers::print),
    ("refusal", refusal::print),
    ("contention", contention::print),
    ("wakeups", wakeups::print),
];

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let test = args.iter().any(|arg| arg == "--test");
    let draws = !test && args.iter().any(|arg| arg == "draw");
    let scale = Scale { draws, ..if test { Scale::SMOKE } else { Scale::FULL } };
    let is_name = |arg: &&String| !arg.starts_with("--") && *arg != "draw";
    let names: Vec<_> = args.iter().filter(is_name).collect();
    for name in &names {
        let is_known = PARTS.iter().any(|(part, _)| part == name);
        assert!(is_known, "no part is called {name}; there are {:?}", PARTS.map(|(part, _)| part));
    }
    let mut bars = Bars::default();
    for (name, print) in PARTS {
        if names.is_empty() || names.contains(&&name.to_owned()) {
            print(scale, &mut bars);
            println!();
        }
    }
    bars.print();
}
