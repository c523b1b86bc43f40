//! A durable queue under a flood, with a worker and the broker killed meanwhile.
//!
//! Starts a `nats-server` of its own and two worker processes. Stores messages at ten times the
//! rate that the workers can do, then kills a worker, and then the broker, with signal 9. In the
//! end every message that a producer was told is stored has to be done. First with the workers of
//! this crate, then with the loop that the client's documentation shows. In the end there are a
//! table and a picture.
//!
//! ```sh
//! cd crates/jetstream                              # in a clone of the repository
//! cargo run --release --example durable            # under a minute
//! cargo run --release --example durable -- --smoke # some seconds, for CI
//! cargo run --release --example durable -- --picture durable.svg
//! ```
//!
//! Without a `nats-server` it says how to get one, and shows the queue of one process.

mod alone;
#[path = "../../benches/support/broker.rs"]
mod broker;
mod chart;
mod child;
mod producer;
mod report;
mod run;

use std::{path::PathBuf, time::Duration};

use tower::BoxError;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    prelude::*,
};

use self::{child::Kind, run::Run};

/// How many calls a worker makes at once.
const LIMIT: usize = 8;

/// How long a call takes.
const CALL: Duration = Duration::from_millis(20);

/// How many workers there are.
const WORKERS: usize = 2;

/// After this long without a sign, a message goes to another worker.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// What happens when, from the start of a run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Messages arrive at ten times what the workers can do.
    flood: Duration,
    /// Then they arrive at half of it, until here.
    arrivals: Duration,
    kill_worker: Duration,
    /// A new worker is started so long after the old one was killed.
    replaced_after: Duration,
    kill_broker: Duration,
    /// The broker is started again so long after it was killed.
    away: Duration,
}

impl Plan {
    fn new(smoke: bool) -> Self {
        let scale = if smoke { 0.3 } else { 1.0 };
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds * scale);
        Self {
            flood: seconds(1.0),
            arrivals: seconds(8.0),
            kill_worker: seconds(3.0),
            replaced_after: seconds(0.5),
            kill_broker: seconds(6.0),
            away: seconds(0.5),
        }
    }

    /// Messages a second that all workers together can do.
    fn rate() -> f64 {
        (WORKERS * LIMIT) as f64 / CALL.as_secs_f64()
    }
}

fn main() -> Result<(), BoxError> {
    show_events();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [first, kind, url, log] = &arguments[..]
        && first == "--child"
    {
        return runtime.block_on(child::work(Kind::read(kind)?, url, log));
    }
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    let named = arguments.iter().skip_while(|argument| *argument != "--picture").nth(1);
    let picture = named.map_or_else(|| PathBuf::from("target/durable.svg"), PathBuf::from);
    runtime.block_on(demonstrate(smoke, &picture))
}

/// Shows the events of this process and of the workers. The client's own events, for each
/// connection and each attempt, would hide the others.
fn show_events() {
    let wanted = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("async_nats", LevelFilter::ERROR);
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(shown).with(wanted).init();
}

async fn demonstrate(smoke: bool, picture: &std::path::Path) -> Result<(), BoxError> {
    let plan = Plan::new(smoke);
    if let Err(missing) = broker::Broker::start().await {
        println!("{missing}.\n");
        return if smoke { Err(missing.into()) } else { alone::show().await };
    }
    println!(
        "{WORKERS} workers, each {LIMIT} calls of {CALL:?} at once: {:.0} messages a second. \
         Ten times as many arrive.",
        Plan::rate()
    );
    let mut runs: Vec<Run> = Vec::new();
    for kind in [Kind::Worker, Kind::Loop] {
        runs.push(run::run(kind, &plan).await?);
    }
    report::print(&runs);
    chart::write(picture, &runs)?;
    println!("\nThe picture is in {}.", picture.display());
    report::verdict(&runs[0])
}
