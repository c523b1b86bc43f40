//! A client of hyper that never sends more at once than it is told to, and obeys if the other side
//! says that even this is too much.
//!
//! Shows the layer in front of hyper-util's client. With `Overflow::Wait` a caller waits for a
//! place before it sends anything, instead of being refused. Outside, a `retry` comes back when
//! `Retry-After` says, and a `timeout` bounds each call from its place on.
//!
//! ```sh
//! cargo run --features http,retry --example client
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, header::RETRY_AFTER};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_load_leveling::{LoadLevelLayer, Overflow, retry::RetryPolicy};

/// What the server can take at once.
const LIMIT: usize = 4;
/// What its operator has told us: a little too much.
const TOLD: usize = 6;
const CALLERS: usize = 40;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, fragile()).await });

    // Without the layer, for comparison.
    let bare = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let calls = (0..CALLERS).map(|_| bare.clone().oneshot(request(&uri)));
    let responses = try_join_all(calls).await?;
    let failed = responses.iter().filter(|response| response.status() != StatusCode::OK).count();
    println!("without the layer: {failed} of {CALLERS} calls were too much for the server");

    let leveler = LoadLevelLayer::builder()
        .name("outgoing")
        .capacity(8)
        .concurrency(TOLD)
        .overflow(Overflow::Wait)
        .build()?;
    let handle = leveler.handle();
    let client = ServiceBuilder::new()
        // Starts when there is a place; what comes before it is the caller's to bound.
        .timeout(Duration::from_secs(20))
        .retry(RetryPolicy::new().http().max_attempts(8))
        .layer(leveler)
        .service(bare);

    let calls = (0..CALLERS).map(|_| client.clone().oneshot(request(&uri)));
    let responses = try_join_all(calls).await?;
    let failed = responses.iter().filter(|response| response.status() != StatusCode::OK).count();
    let stats = handle.stats();
    println!("with the layer and retries: {failed} of {CALLERS}");
    println!("sent: {}, longest wait: {:?}", stats.succeeded, stats.wait.quantile(1.0));
    ensure(failed == 0, "everybody should be answered in the end")?;
    ensure(stats.refused.total() == 0, "callers should wait, and not be refused")
}

/// A server that says when to come back if it is given too much.
fn fragile() -> Router {
    let running = Arc::new(AtomicUsize::new(0));
    Router::new().route(
        "/",
        get(async move || {
            let too_much = running.fetch_add(1, SeqCst) >= LIMIT;
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, SeqCst);
            match too_much {
                true => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response(),
                false => StatusCode::OK.into_response(),
            }
        }),
    )
}

fn request(uri: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::default();
    *request.uri_mut() = uri.parse().expect("made from a socket address");
    request
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
