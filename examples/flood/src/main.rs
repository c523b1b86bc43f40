//! A flood of a service in three forms: bare, behind the stock layers of tower, and behind
//! `LoadLevelLayer`.
//!
//! An order API in axum writes to SQLite: a real database with a single writer. The database slows
//! down when many writers compete. Clients send orders over loopback HTTP: at half the rate that
//! the database can do, then at **ten times** the rate, then at half again. A client waits for one
//! second.
//!
//! ```sh
//! cargo run --release -p flood              # a minute and a half
//! cargo run --release -p flood -- --repeat  # again, up to three times, until the machine is quiet
//! cargo run --release -p flood -- --smoke   # 15 seconds, for CI
//! ```
//!
//! The demonstration ends with a table, a picture, and a check that the database has every accepted
//! order exactly once. Before, between and after the runs the demonstration measures the database
//! alone, and the free cores. If the database became slower or faster, or cores were taken, the
//! machine was busy, and the numbers do not count.

mod client;
mod contenders;
mod gauge;
mod picture;
mod plan;
mod progress;
mod run;
mod server;
mod store;
mod table;

use std::path::PathBuf;

use self::{contenders::Contender, gauge::Look, plan::Plan, run::Run};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().with_writer(progress::above).init();

    let (mut smoke, mut tries) = (false, 1);
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--smoke" => smoke = true,
            "--repeat" => tries = 3,
            other => return Err(format!("{other}? There are --smoke and --repeat.").into()),
        }
    }
    let plan = Plan::new(smoke);
    while tries > 0 {
        tries = if demonstrate(&plan).await? { 0 } else { tries - 1 };
    }
    Ok(())
}

/// Returns whether the machine was quiet.
async fn demonstrate(plan: &Plan) -> Result<bool> {
    let time = plan.gauge;
    let lines = blocking("how large an order", plan, move || gauge::lines(time)).await?;
    let look = || blocking("what is possible", plan, move || Look::at(lines, time));
    let mut looks = vec![look().await?];
    println!("This database stores {:.0} orders of {lines} lines a second.", looks[0].orders);

    let mut runs = Vec::new();
    for contender in Contender::ALL {
        let before = looks[looks.len() - 1].orders;
        let mut run = Run::of(contender, lines, looks[0].orders, plan).await?;
        let after = look().await?;
        run.possible = f64::midpoint(before, after.orders);
        looks.push(after);
        runs.push(run);
    }

    table::print(&runs, plan);
    let is_quiet = table::is_quiet(&looks);
    table::check(&runs)?;
    let file = PathBuf::from("target").join("flood.svg");
    picture::write(&file, &runs, plan)?;
    println!("The picture is in {}.", file.display());
    Ok(is_quiet)
}

async fn blocking<T: Send + 'static>(
    what: &str,
    plan: &Plan,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    progress::during(what, plan.gauge, tokio::task::spawn_blocking(work)).await?
}
