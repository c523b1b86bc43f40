//! Does many waiting requests in one call of the backend.
//!
//! For a backend to which a hundred at once cost little more than one: a bulk `INSERT`, a model on
//! a GPU, an API with a batch endpoint. The queue in front keeps its order, deadlines and bounds;
//! the inner gathers what the limit lets through. The limit is twice the size of a batch: one runs
//! while the next gathers.
//!
//! ```sh
//! cargo run --example batching
//! ```

mod batcher;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use batcher::Batcher;
use futures::future::join_all;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_load_leveling::LoadLevelLayer;

const BATCH: usize = 50;
const ROWS: u64 = 2000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    println!("{ROWS} rows: {:<18}{:>10}{:>18}", "", "calls", "rows a second");
    for at_most in [1, BATCH] {
        let (calls, time) = insert_all(at_most).await?;
        println!(
            "            {:<18}{calls:>10}{:>18.0}",
            format!("batches up to {at_most}"),
            ROWS as f64 / time.as_secs_f64()
        );
        ensure(at_most == 1 || calls < 100, "waiting rows should go together")?;
    }
    Ok(())
}

/// Inserts all rows, as many callers would, and returns how many calls that took.
async fn insert_all(at_most: usize) -> Result<(usize, Duration), BoxError> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let insert = move |rows: Vec<u64>| {
        counted.fetch_add(1, SeqCst);
        async move {
            // A round trip, and a little for each row.
            tokio::time::sleep(Duration::from_micros(1000 + 10 * rows.len() as u64)).await;
            Ok::<_, Infallible>(rows)
        }
    };
    let leveler = LoadLevelLayer::builder()
        .name("rows")
        .capacity(ROWS as usize)
        .concurrency(2 * at_most)
        .max_wait(Duration::from_secs(20))
        .build()?;
    let service = ServiceBuilder::new().layer(leveler).service(Batcher::new(at_most, insert));

    let start = Instant::now();
    let answers = join_all((0..ROWS).map(|row| service.clone().oneshot(row))).await;
    let time = start.elapsed();
    for (row, answer) in (0..ROWS).zip(answers) {
        ensure(answer? == row, "each caller should get the answer to its own row")?;
    }
    Ok((calls.load(SeqCst), time))
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
