//! A client of reqwest that obeys: its own limit, and a server that says when to come back.
//!
//! Shows the layer in front of a `reqwest::Client`, and a `retry` outside of it. The policy reads
//! two kinds of refusals: those of the leveler in this process, which were never sent, and 503 with
//! `Retry-After` of the server. Beside it, the same client without the two layers.
//!
//! ```sh
//! cargo run --features http,retry --example reqwest
//! ```

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use futures::future::join_all;
use reqwest::{Client, Method, Request, Response};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_load_leveling::{
    Handle, LoadLevelLayer,
    error::BuildError,
    http::RejectionLayer,
    retry::{Advice, RetryPolicy},
};

const CALLERS: usize = 40;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let (server, server_handle) = server()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, server).await });

    let answered = call_all(Client::new(), &uri).await;
    println!("bare: {answered} of {CALLERS} answered");
    ensure(answered < CALLERS, "so many at once should be too many for the server")?;

    let leveler = LoadLevelLayer::builder()
        .name("outgoing")
        .capacity(CALLERS)
        .concurrency(8)
        .max_wait(Duration::from_secs(10))
        .build()?;
    let retries = RetryPolicy::new()
        .max_attempts(20)
        .backoff(Duration::from_millis(20))
        .clone_with(Request::try_clone)
        .advice(|_: &Request, result: Result<&Response, &BoxError>| {
            let response = result.ok()?;
            Advice::from_http(response.status(), response.headers())
        });
    // The retry is outside, so that it holds no slot while it waits for its next attempt.
    let client = ServiceBuilder::new().retry(retries).layer(leveler).service(Client::new());

    let before = refusals(&server_handle);
    let answered = call_all(client, &uri).await;
    let refused = refusals(&server_handle) - before;
    println!("with retries: {answered} of {CALLERS} answered, {refused} refusals on the way");
    ensure(answered == CALLERS, "everybody should be answered in the end")
}

/// Calls the server forty times at once; returns how many were answered.
async fn call_all<S>(client: S, uri: &str) -> usize
where
    S: Service<Request, Response = Response, Error: Into<BoxError>> + Clone,
{
    let calls = (0..CALLERS).map(|_| {
        let client = client.clone();
        async move {
            let request = Request::new(Method::GET, uri.parse()?);
            client.oneshot(request).await.map_err(Into::<BoxError>::into)
        }
    });
    let answers = join_all(calls).await;
    answers.iter().flatten().filter(|response| response.status() == StatusCode::OK).count()
}

/// A server that can do four at once, and lets two wait.
fn server() -> Result<(Router, Handle), BuildError> {
    let leveler = LoadLevelLayer::builder().name("server").capacity(2).concurrency(4).build()?;
    let handle = leveler.handle();
    let stack = ServiceBuilder::new().layer(RejectionLayer::new()).layer(leveler);
    let work = || tokio::time::sleep(Duration::from_millis(20));
    Ok((Router::new().route("/", get(work)).layer(stack), handle))
}

fn refusals(server: &Handle) -> u64 {
    server.stats().refused.total()
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
