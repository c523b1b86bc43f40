//! Levels outgoing calls of reqwest, and tries again when the queue says so.
//!
//! Shows the layer in front of a `reqwest::Client`, and a `retry` outside of it: a rejected call
//! was never sent, so it is safe to try again, when
//! [`retry_after`](tower_load_leveling::error::Rejected::retry_after) says.
//!
//! ```sh
//! cargo run --features retry --example reqwest
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use futures::future::join_all;
use reqwest::{Client, Method, Request};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_load_leveling::{LoadLevelLayer, retry::RetryPolicy};

/// What the server can take at once.
const LIMIT: usize = 4;
const CALLERS: usize = 40;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let peak = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    let server = server(Arc::clone(&peak));
    tokio::spawn(async move { axum::serve(listener, server).await });

    let leveler = LoadLevelLayer::builder()
        .name("outgoing")
        .capacity(8)
        .concurrency(LIMIT)
        .max_wait(Duration::from_secs(1))
        .build()?;
    let handle = leveler.handle();
    // Outside, so that it holds no slot while it waits for its next attempt.
    let retries = RetryPolicy::new()
        .max_attempts(20)
        .backoff(Duration::from_millis(20))
        .clone_with(Request::try_clone);
    let client = ServiceBuilder::new().retry(retries).layer(leveler).service(Client::new());

    let calls = (0..CALLERS).map(|_| {
        let request = uri.parse().map(|uri| Request::new(Method::GET, uri));
        let client = client.clone();
        async move { client.oneshot(request?).await }
    });
    let answers = join_all(calls).await;
    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = handle.stats().refused.full;
    println!("{answered} of {CALLERS} answered, {refused} refusals on the way");
    println!("at most {} at once in the server", peak.load(SeqCst));
    ensure(answered == CALLERS, "everybody should be answered in the end")?;
    ensure(refused > 0, "forty at once should be too many")?;
    ensure(peak.load(SeqCst) <= LIMIT, "the server should never have more than it can take")
}

/// A server that notices how many requests it has at once.
fn server(peak: Arc<AtomicUsize>) -> Router {
    let running = Arc::new(AtomicUsize::new(0));
    Router::new().route(
        "/",
        get(async move || {
            peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, SeqCst);
        }),
    )
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
