//! Finds the limit by an algorithm of your own.
//!
//! The algorithm here knows how long a call should take. It adds a slot for each round of calls
//! that keep to that while the limit is in the way, and takes a tenth of them back, once in a
//! while, when calls take longer or the inner says that it has too much to do.
//! `limit::LatencyTarget` does the like with more care.
//!
//! ```sh
//! cargo run --example custom_limit
//! ```

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, interval, sleep},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    LoadLevelLayer,
    limit::{Algorithm, Outcome, Sample},
};

/// How long a call to a backend with time for it takes, and how many such calls it can do at once.
const SERVICE: Duration = Duration::from_millis(10);
const SERVERS: usize = 12;

struct InTime {
    target: Duration,
    limit: f64,
    /// Calls that began before the last change say nothing about what has come of it.
    changed: Option<Instant>,
}

impl Algorithm for InTime {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, sample: &Sample) {
        let is_late = sample.service_time() > self.target;
        match sample.outcome {
            Outcome::Success if !is_late && sample.limit_reached => self.limit += 1.0 / self.limit,
            Outcome::Success if !is_late => {}
            Outcome::Success | Outcome::Overload
                if self.changed.is_none_or(|at| at < sample.dispatched) =>
            {
                self.limit = (0.9 * self.limit).max(1.0);
                self.changed = Some(sample.finished);
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let algorithm = InTime { target: SERVICE.mul_f64(1.5), limit: 1.0, changed: None };
    let leveler = LoadLevelLayer::builder().capacity(256).adaptive(algorithm).build()?;
    let handle = leveler.handle();

    let servers = Arc::new(Semaphore::new(SERVERS));
    let service = leveler.layer(service_fn(move |_: ()| work(Arc::clone(&servers))));

    // Far more callers than the backend can serve at once, each with one call after the other.
    for _ in 0..100 {
        let mut service = service.clone();
        tokio::spawn(async move { while service.call(()).await.is_ok() {} });
    }

    println!("a backend that does {SERVERS} calls at once\n");
    println!("limit  calls/s");
    let mut clock = interval(Duration::from_millis(250));
    let mut before = clock.tick().await;
    let mut counted = 0;
    for _ in 0..10 {
        let now = clock.tick().await;
        let stats = handle.stats();
        let rate = (stats.succeeded - counted) as f64 / (now - before).as_secs_f64();
        println!("{:5}  {rate:7.0}  {}", stats.limit, "█".repeat(stats.limit));
        (before, counted) = (now, stats.succeeded);
    }

    let report = handle.drain(Duration::from_secs(5)).await;
    if counted == 0 || report.in_flight > 0 {
        return Err(format!("calls should be served, and end: {report:?}").into());
    }
    Ok(())
}

/// Waits for a free server, where nobody sees it, and keeps it for a while.
async fn work(servers: Arc<Semaphore>) -> Result<(), BoxError> {
    let _server = servers.acquire().await?;
    sleep(SERVICE).await;
    Ok(())
}
