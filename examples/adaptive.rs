//! Watch a limit follow a backend whose capacity changes.
//!
//! The backend is in this process: some servers, each busy with a call for 20 ms on average, and a
//! queue of its own for what is sent to it beyond that. It has 16 servers, loses all but 4 of them,
//! and gets 32. Nobody tells the layer. All the time far more is asked for than it can do.
//!
//! What to look for: the limit (bar) settles a little above the number of servers (`|`), so that
//! all of them are busy and calls take hardly longer than they do on an idle backend; the rest is
//! turned away within a quarter of a second.
//!
//! ```sh
//! cargo run --release --example adaptive
//! cargo run --release --example adaptive -- --smoke   # three seconds, for CI
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{LoadLevelLayer, Order, stats::Stats};

const SERVICE: Duration = Duration::from_millis(20);
const SERVERS: [usize; 3] = [16, 4, 32];

/// Requests a second: more than 32 servers can do, and ten times what 4 can.
const LOAD: f64 = 2000.0;

/// How long callers wait for their turn.
const PATIENCE: Duration = Duration::from_millis(250);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let lines = if smoke { 2 } else { 14 };

    let leveler = LoadLevelLayer::builder()
        .capacity(500)
        .adaptive_concurrency()
        .max_wait(PATIENCE)
        .order(Order::AdaptiveLifo)
        .build()?;
    let handle = leveler.handle();
    let backend = Arc::new(Backend::new());
    let service = leveler.layer(service_fn({
        let backend = Arc::clone(&backend);
        move |work: Duration| Arc::clone(&backend).serve(work)
    }));
    let load = tokio::spawn(ask(service));

    println!("time  servers  limit  done/s  backend  refused/s");
    let start = Instant::now();
    let mut clock = interval(Duration::from_millis(500));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let mut before = (start, handle.stats());
    for servers in SERVERS {
        backend.set_servers(servers);
        for _ in 0..lines {
            let now = clock.tick().await;
            let stats = handle.stats();
            print(start, servers, backend.mean_latency(), &before, &(now, stats.clone()));
            before = (now, stats);
        }
    }

    load.abort();
    let report = handle.drain(Duration::from_secs(10)).await;
    let Stats { admitted, succeeded, failed, cancelled, removed, .. } = handle.stats();
    // What is asserted holds on a machine that is busy with other things as well.
    let balanced = admitted == succeeded + failed + cancelled + removed.total();
    if !(balanced && succeeded > 0 && report.in_flight == 0) {
        return Err(format!("the books should balance: {:?}", handle.stats()).into());
    }
    Ok(())
}

/// Asks at an even rate, whatever becomes of it.
async fn ask<S>(mut service: S)
where
    S: Service<Duration, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send,
{
    let start = Instant::now();
    let mut clock = interval(Duration::from_millis(2));
    let (mut asked, mut random) = (0.0, 1);
    loop {
        let now = clock.tick().await;
        while asked < LOAD * (now - start).as_secs_f64() {
            asked += 1.0;
            let call = service.call(exponential(&mut random));
            tokio::spawn(async move { drop(call.await) });
        }
    }
}

/// The next of a sequence of random times, of `SERVICE` on average (by xorshift).
fn exponential(random: &mut u64) -> Duration {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let uniform = (*random >> 11) as f64 / (1_u64 << 53) as f64;
    SERVICE.mul_f64(-(1.0 - uniform).ln())
}

/// Servers, and a queue in front of them.
struct Backend {
    free: Arc<Semaphore>,
    servers: AtomicU64,
    calls: AtomicU64,
    micros: AtomicU64,
}

impl Backend {
    fn new() -> Self {
        let free = Arc::new(Semaphore::new(0));
        Self { free, servers: 0.into(), calls: 0.into(), micros: 0.into() }
    }

    async fn serve(self: Arc<Self>, work: Duration) -> Result<(), BoxError> {
        let began = Instant::now();
        let server = self.free.acquire().await?;
        sleep(work).await;
        drop(server);
        self.calls.fetch_add(1, Relaxed);
        self.micros.fetch_add(began.elapsed().as_micros() as u64, Relaxed);
        Ok(())
    }

    fn set_servers(&self, servers: usize) {
        let before = self.servers.swap(servers as u64, Relaxed) as usize;
        if servers > before {
            self.free.add_permits(servers - before);
        } else {
            // Those who go finish what they have begun.
            let (free, go) = (Arc::clone(&self.free), (before - servers) as u32);
            for _ in 0..go {
                let free = Arc::clone(&free);
                tokio::spawn(async move { free.acquire().await.map(|server| server.forget()) });
            }
        }
    }

    /// Of the calls that have ended since it was last asked.
    fn mean_latency(&self) -> Duration {
        let (micros, calls) = (self.micros.swap(0, Relaxed), self.calls.swap(0, Relaxed));
        Duration::from_micros(micros / calls.max(1))
    }
}

fn print(
    start: Instant,
    servers: usize,
    latency: Duration,
    before: &(Instant, Stats),
    now: &(Instant, Stats),
) {
    let seconds = (now.0 - before.0).as_secs_f64();
    let (before, stats) = (&before.1, &now.1);
    let refused = |stats: &Stats| stats.refused.total() + stats.removed.total();
    let per_second = |count: u64| count as f64 / seconds;
    println!(
        "{:4.1}  {servers:7}  {:5}  {:6.0}  {:4} ms  {:9.0}  {}",
        start.elapsed().as_secs_f64(),
        stats.limit,
        per_second(stats.succeeded - before.succeeded),
        latency.as_millis(),
        per_second(refused(stats) - refused(before)),
        bar(stats.limit, servers),
    );
}

/// The limit as a bar, with a mark at the number of servers.
fn bar(limit: usize, servers: usize) -> String {
    const WIDTH: usize = 72;
    let length = limit.max(servers).min(WIDTH);
    (1..=length)
        .map(|at| match at {
            _ if at == servers => '|',
            _ if at <= limit => '█',
            _ => ' ',
        })
        .collect()
}
