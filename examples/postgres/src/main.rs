//! A leveler in front of a pool of connections to PostgreSQL.
//!
//! A pool has a queue of its own, without a bound, an order or a view: under load a health check
//! waits behind everything. Here the leveler lets run as many queries as the pool has connections,
//! less some that are kept for health checks. So the queue is in front of the pool, where it is
//! bounded, and nobody ever waits inside.
//!
//! ```sh
//! examples/postgres/with-postgres cargo run --release -p postgres-example
//! ```
//!
//! The script starts a PostgreSQL for the time of the command. With one of your own, set
//! `DATABASE_URL` instead: `host=localhost user=me`.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use deadpool_postgres::{Manager, Pool, Runtime};
use futures::future::join_all;
use tokio_postgres::NoTls;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, error::Rejected};

/// The connections of the pool, and how many of them are kept for health checks.
const POOL: usize = 10;
const KEPT: usize = 2;
/// Queries that come at once. Each takes 20 ms, so the pool does 400 to 500 a second.
const BURST: usize = 600;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    Work,
    Health,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();
    let url = env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL, or use with-postgres")?;

    let bare = query(pool(&url).await?);
    let bare = burst("the pool alone", bare).await?;

    let pool = pool(&url).await?;
    let leveler = LoadLevelLayer::builder()
        .name("postgres")
        .concurrency(POOL - KEPT)
        .bypass_limit(KEPT)
        // As many as are served in half a second. Others are told so at once.
        .capacity(200)
        .max_wait(Duration::from_millis(500))
        .classify_request(|query: &Query| match query {
            Query::Work => Class::new(),
            Query::Health => Class::bypass(),
        })
        .build()?;
    let leveled = ServiceBuilder::new().layer(leveler).service(query(pool));
    let leveled = burst("with a leveler", leveled).await?;

    ensure(leveled.in_pool == 0, "nobody should wait inside of the pool")?;
    ensure(leveled.health < bare.health / 2, "the health check should not wait for others")
}

/// A query to the pool, as a service.
fn query(
    pool: Pool,
) -> impl Service<Query, Response = usize, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    service_fn(move |query| {
        let pool = pool.clone();
        async move {
            // Those that wait for a connection now, this one included.
            let waiting = pool.status().waiting;
            let connection = pool.get().await?;
            let text = match query {
                Query::Work => "SELECT pg_sleep(0.02)",
                Query::Health => "SELECT 1",
            };
            connection.query(text, &[]).await?;
            Ok(waiting)
        }
    })
}

/// A pool with all its connections open, so that nobody's query has to open one.
async fn pool(url: &str) -> Result<Pool, BoxError> {
    let manager = Manager::new(url.parse()?, NoTls);
    let pool = Pool::builder(manager).max_size(POOL).runtime(Runtime::Tokio1).build()?;
    let connections = join_all((0..POOL).map(|_| pool.get())).await;
    connections.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(pool)
}

struct Figures {
    /// How long the health check took in the middle of the burst.
    health: Duration,
    /// How many waited for a connection at once, at most.
    in_pool: usize,
}

/// Sends a burst of queries, and a health check after 100 ms. Prints what became of them.
async fn burst<S>(name: &str, service: S) -> Result<Figures, BoxError>
where
    S: Service<Query, Response = usize, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let (in_pool, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    let work = join_all((0..BURST).map(|_| async {
        match service.clone().oneshot(Query::Work).await {
            Ok(waiting) => in_pool.fetch_max(waiting, SeqCst),
            Err(error) if error.is::<Rejected>() => refused.fetch_add(1, SeqCst),
            Err(error) => return Err(error),
        };
        Ok(start.elapsed())
    }));
    let health = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = Instant::now();
        service.clone().oneshot(Query::Health).await?;
        Ok::<_, BoxError>(sent.elapsed())
    };
    let (work, health) = tokio::join!(work, health);
    let mut times = work.into_iter().collect::<Result<Vec<_>, _>>()?;
    times.sort();
    let figures = Figures { health: health?, in_pool: in_pool.load(SeqCst) };
    println!("{name}: {BURST} queries at once");
    println!("  answered       {:>6}", BURST - refused.load(SeqCst));
    println!("  refused        {:>6}, at once or after 500 ms", refused.load(SeqCst));
    println!("  the last one   {:>6} ms", times[BURST - 1].as_millis());
    println!("  health check   {:>6} ms, sent after 100 ms", figures.health.as_millis());
    println!("  in the pool's own queue, at most: {}", figures.in_pool);
    Ok(figures)
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
