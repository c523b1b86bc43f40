//! A flood, with and without the layer.
//!
//! An order API in axum writes to SQLite: a real database, which has one writer and suffers when
//! many want to be it. Over loopback HTTP come orders at half the rate it can sustain, then at
//! **ten times** that rate for some seconds, then at half again. First against the bare service,
//! then with `LoadLevelLayer` around it. In the end there is a table, a picture, and a check that
//! every accepted order is in the database exactly once.
//!
//! ```sh
//! cargo run --release -p flood            # under a minute
//! cargo run --release -p flood -- --smoke # a few seconds, for CI
//! ```

mod chart;
mod client;
mod progress;
mod report;
mod server;
mod store;

use std::{path::PathBuf, time::Duration};

use tower_load_leveling::{Abandon, LoadLevelLayer};

use self::{client::Client, report::Run, server::Server, store::Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// SQLite lets one connection write at a time; more of them only wait in its lock.
const WRITERS: usize = 1;
/// After this a client has no use for the answer any more.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an order may wait in the queue: the client's patience, less ample time for the work
/// itself.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// How long we wait for work that nobody waits for any more.
pub(crate) const SETTLE: Duration = Duration::from_secs(6);

/// The load: (times the sustainable rate, for how long).
pub(crate) struct Plan {
    pub(crate) phases: [(f64, Duration); 3],
    pub(crate) calibration: Duration,
}

impl Plan {
    fn new(smoke: bool) -> Self {
        let scale = if smoke { 0.15 } else { 1.0 };
        let seconds = |seconds: f64| Duration::from_secs_f64(seconds * scale);
        Self {
            phases: [(0.5, seconds(4.0)), (10.0, seconds(4.0)), (0.5, seconds(6.0))],
            calibration: seconds(3.0),
        }
    }

    /// The flood itself, as times from the start.
    pub(crate) fn flood(&self) -> std::ops::Range<Duration> {
        self.phases[0].1..self.phases[0].1 + self.phases[1].1
    }

    pub(crate) fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.1).sum()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let smoke = std::env::args().any(|arg| arg == "--smoke");
    let plan = Plan::new(smoke);

    let rate = sustainable_rate(&plan).await?;
    println!("This database takes about {rate:.0} orders a second, one writer at a time.");

    let bare = run("bare", None, rate, &plan).await?;
    // As many as can be served within the time they may wait.
    let capacity = (rate * MAX_WAIT.as_secs_f64()).ceil() as usize;
    let layer = LoadLevelLayer::builder()
        .name("orders")
        .capacity(capacity)
        .concurrency(WRITERS)
        .max_wait(MAX_WAIT)
        // A transaction goes on in its thread when its caller has gone. So the slot must stay
        // taken, too.
        .abandon(Abandon::Finish)
        .build()?;
    let leveled = run("with the layer", Some(layer), rate, &plan).await?;

    let runs = [bare, leveled];
    report::print(&runs, &plan);
    let picture = PathBuf::from("target").join("flood.svg");
    chart::write(&picture, &runs, &plan)?;
    println!("\nThe picture is in {}.", picture.display());
    report::verdict(&runs)
}

/// How many orders a second the database takes from as many writers as the layer will let run.
async fn sustainable_rate(plan: &Plan) -> Result<f64> {
    let store = Store::create("calibration")?;
    let server = Server::start(store.clone(), None).await?;
    let client = Client::connect(server.address()).await?;
    progress::during("measuring the rate", plan.calibration, client.closed_loop(plan.calibration))
        .await
        .map(|stored| (stored as f64 / plan.calibration.as_secs_f64()).max(1.0))
}

async fn run(
    name: &'static str,
    layer: Option<LoadLevelLayer>,
    rate: f64,
    plan: &Plan,
) -> Result<Run> {
    let store = Store::create(name)?;
    let handle = layer.as_ref().map(LoadLevelLayer::handle);
    let server = Server::start(store.clone(), layer).await?;
    let client = Client::connect(server.address()).await?;
    let watched = report::Watch::start(store.clone(), handle.clone());
    let length = plan.length() + PATIENCE;
    let answers = progress::during(name, length, client.open_loop(rate, plan)).await;
    let timeline = watched.stop();
    // Who has given up has gone, but what they had started goes on. Only then is the database
    // final.
    let settled = store.settle(SETTLE).await;
    if let Some(handle) = handle {
        handle.drain(Duration::from_secs(5)).await;
    }
    server.stop();
    Ok(Run { name, answers, timeline, settled, books: store.books()?, peak: store.peak() })
}
