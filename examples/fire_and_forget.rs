//! Enqueues work and goes on; at the end, waits until all of it is done.
//!
//! Shows `Abandon::Finish`, with which a call is carried out although nobody keeps its future;
//! `try_call`, which hands a request back when there is no room for it; and the report of
//! `Handle::drain`.
//!
//! ```sh
//! cargo run --example fire_and_forget
//! ```

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tower::{BoxError, Layer, service_fn};
use tower_load_leveling::{Abandon, LoadLevelLayer};

const EVENTS: usize = 100;

// On one thread nothing is written before the first `await`, so that this always prints the same.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let leveler = LoadLevelLayer::builder()
        .name("audit")
        .capacity(64)
        .concurrency(4)
        .abandon(Abandon::Finish)
        .build()?;
    let handle = leveler.handle();

    let written = Arc::new(AtomicUsize::new(0));
    let mut audit = leveler.layer(service_fn({
        let written = Arc::clone(&written);
        move |event: String| write(Arc::clone(&written), event)
    }));

    let mut spilled = Vec::new();
    for number in 0..EVENTS {
        match audit.try_call(format!("event {number}")) {
            // Nobody waits for the answer. With the default, `Abandon::Cancel`, this would cancel
            // the call.
            Ok(call) => drop(call),
            // No room: the event comes back, to be kept elsewhere.
            Err(refused) => spilled.push(refused.into_request()),
        }
    }
    let enqueued = EVENTS - spilled.len();
    println!("{enqueued} events enqueued, {} written so far", written.load(SeqCst));
    println!("{} came back, the first is {:?}", spilled.len(), spilled.first());

    let report = handle.drain(Duration::from_secs(10)).await;
    println!("{report:?}");
    println!("{} events written", written.load(SeqCst));

    ensure(enqueued == 64 + 4, "there should be room for capacity + limit")?;
    ensure(report.finished == enqueued as u64, "all that was enqueued should be finished")?;
    ensure(report.removed == 0 && report.in_flight == 0, "nothing should be left")?;
    ensure(written.load(SeqCst) == enqueued, "each event should be written once")
}

/// Writes to a slow store.
async fn write(written: Arc<AtomicUsize>, event: String) -> Result<(), Infallible> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(event);
    written.fetch_add(1, SeqCst);
    Ok(())
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
