//! What the layer costs an axum server, over real connections: requests per second, and latency.
//!
//! ```sh
//! cargo bench -p measure --bench http                # all, in four minutes
//! cargo bench -p measure --bench http -- throughput  # one of the two
//! cargo bench -p measure --bench http -- latency
//! cargo bench -p measure --bench http -- draw        # all, and docs/images/latency.svg anew
//! cargo bench -p measure --bench http -- --test      # a smoke test
//! ```
//!
//! The load comes from a process of its own, which is this program started again ([`child`]), on 64
//! connections that stay open. All [`contenders`] are served by two threads of this one. They take
//! turns in many short rounds, each beginning with another, so that what else the machine does
//! befalls all alike. The results are **ratios** within a round: printed are their median, their
//! quartiles, and the standard error of the median. Rates and times depend on the machine and its
//! mood, and on the load's using some of it.

#![allow(unreachable_pub, reason = "nothing here can be reached from outside")]

mod bars;
mod child;
mod contenders;
mod handlers;
mod latency;
mod loader;
mod numbers;
mod picture;
mod servers;
mod throughput;

use std::env;

use loader::Loader;
use servers::Servers;

/// Kept open by the load. As many as the limit, so that nobody waits: this is about what the layer
/// costs then.
const CONNECTIONS: usize = 64;

fn main() {
    // `cargo bench` adds `--bench`.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_given = |name: &str| args.iter().any(|arg| arg == name);
    if is_given(child::ARGUMENT) {
        return child::serve();
    }
    let test = is_given("--test");
    let is_wanted = |name: &str| is_given(name) || !(is_given("throughput") || is_given("latency"));
    let servers = Servers::start();
    let mut loader = Loader::start();
    if is_wanted("throughput") {
        let plans = if test { throughput::TEST } else { throughput::FULL };
        plans.iter().for_each(|plan| throughput::measure(plan, &servers, &mut loader));
    }
    if is_wanted("latency") {
        let loads = if test { latency::TEST } else { latency::FULL };
        let levels = latency::measure(loads, &servers, &mut loader);
        if is_given("draw") && !test {
            picture::write(&levels);
        }
    }
}
