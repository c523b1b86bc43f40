//! Levels outgoing calls: a client that never sends more at once than the other side can take.
//!
//! Shows the layer in front of hyper-util's client. With `Overflow::Wait` a caller waits for a
//! place before it sends anything, instead of being refused; a `timeout` outside bounds each call
//! from there on.
//!
//! ```sh
//! cargo run --example client
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, routing::get};
use futures::future::try_join_all;
use http::Request;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_load_leveling::{LoadLevelLayer, Overflow};

/// What the server can take at once.
const LIMIT: usize = 4;
const CALLERS: usize = 40;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, fragile()).await });

    // Without the layer, for comparison.
    let bare = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let calls = (0..CALLERS).map(|_| bare.clone().oneshot(request(&uri)));
    let responses = try_join_all(calls).await?;
    let failed = responses.iter().filter(|response| response.status() != StatusCode::OK).count();
    println!("without the layer: {failed} of {CALLERS} calls were too much for the server");

    let leveler = LoadLevelLayer::builder()
        .name("outgoing")
        .capacity(8)
        .concurrency(LIMIT)
        .overflow(Overflow::Wait)
        .build()?;
    let handle = leveler.handle();
    let client = ServiceBuilder::new()
        // Starts when there is a place; what comes before it is the caller's to bound.
        .timeout(Duration::from_secs(5))
        .layer(leveler)
        .service(bare);

    let calls = (0..CALLERS).map(|_| client.clone().oneshot(request(&uri)));
    let responses = try_join_all(calls).await?;
    let failed = responses.iter().filter(|response| response.status() != StatusCode::OK).count();
    let stats = handle.stats();
    println!("with the layer: {failed} of {CALLERS}");
    println!("longest wait in the queue: {:?}", stats.wait.quantile(1.0));
    ensure(failed == 0, "the server should never have too much to do")?;
    ensure(stats.refused.total() == 0, "callers should wait, and not be refused")?;
    ensure(stats.succeeded == CALLERS as u64, "every call should be answered")
}

/// A server that fails when it is given too much.
fn fragile() -> Router {
    let running = Arc::new(AtomicUsize::new(0));
    Router::new().route(
        "/",
        get(async move || {
            let too_much = running.fetch_add(1, SeqCst) >= LIMIT;
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, SeqCst);
            if too_much { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
        }),
    )
}

fn request(uri: &str) -> Request<Body> {
    let mut request = Request::default();
    *request.uri_mut() = uri.parse().expect("made from a socket address");
    request
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
