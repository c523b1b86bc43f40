//! Levels a gRPC service in tonic, without glue.
//!
//! Refusals come to the client as `UNAVAILABLE`, with the time after which to try again; deadlines
//! come from `grpc-timeout`; the service keeps its name, so it goes into `add_service` like any
//! other. The client obeys the time: a `retry` goes around its typed calls.
//!
//! ```sh
//! cargo run --features grpc,retry --example tonic
//! ```

mod greeter;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use greeter::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest, hello};
use tokio::net::TcpListener;
use tonic::{
    Status,
    service::LayerExt,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    LoadLevelLayer, grpc,
    http::Hold,
    retry::{Advice, RetryPolicy},
};

const STREAMS: u32 = 128;
/// In bytes.
const STREAM_WINDOW: u32 = 64 << 10;

/// Takes its time.
struct Slow;

impl Greeter for Slow {
    async fn say_hello(&self, request: HelloRequest) -> Result<HelloReply, Status> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(HelloReply { text: format!("hello, {}", request.name) })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let leveler = LoadLevelLayer::builder()
        .name("greeter")
        .capacity(4)
        .concurrency(2)
        .request_classifier(grpc::TimeoutDeadline::new().by_default(Duration::from_secs(5)))
        .response_classifier(grpc::ByStatus::new())
        .hold_until(Hold::BodyEnd)
        // Or a client that leaves two streams unread would stop the service.
        .body_idle(Duration::from_secs(10))
        .body_rate(16 << 10)
        .max_wait(Duration::from_secs(2))
        .build()?;
    let handle = leveler.handle();
    let greeter = ServiceBuilder::new()
        .layer(grpc::RejectionLayer::new())
        .layer(leveler)
        .named_layer(GreeterServer::new(Slow));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}", listener.local_addr()?);
    // The messages of waiting calls must not fill the window of their connection, or calls that run
    // get no more of their own.
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAMS * STREAM_WINDOW)
        .add_service(greeter);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let client = GreeterClient::new(Endpoint::from_shared(uri)?.connect().await?);
    let attempts = Arc::new(AtomicU32::new(0));
    let call = service_fn(|request: HelloRequest| {
        attempts.fetch_add(1, SeqCst);
        let mut client = client.clone();
        async move { client.say_hello(hello(&request.name)).await }
    });
    // Reads the pushback of the server from the metadata of a status.
    let counted = attempts.clone();
    let advice = move |_: &HelloRequest, result: Result<&HelloReply, &Status>| {
        let status = result.err()?;
        // Until a first call has ended, the server knows no time. The client then backs off.
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        if let Some(pushback) = pushback.and_then(|pushback| pushback.to_str().ok()) {
            let attempt = counted.load(SeqCst);
            println!("after {attempt} attempts: {:?}, again in {pushback} ms", status.code());
        }
        Advice::from_grpc(status.code().into(), &status.metadata().clone().into_headers())
    };
    let retries = RetryPolicy::new().max_attempts(50).advice(advice);
    let greeter = ServiceBuilder::new().retry(retries).service(call);

    let calls =
        (0..12).map(|nth| greeter.clone().oneshot(HelloRequest { name: format!("caller {nth}") }));
    let replies = join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let stats = handle.stats();
    println!("the last reply: {:?}", replies[11].text);
    println!(
        "12 calls took {} attempts; {} were refused",
        attempts.load(SeqCst),
        stats.refused.full
    );
    ensure(stats.refused.full > 0, "twelve at once should be too many")?;
    ensure(stats.succeeded == 12, "each should be answered in the end")
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
