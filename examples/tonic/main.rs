//! Levels a gRPC service in tonic, without glue.
//!
//! Refusals come to the client as `UNAVAILABLE`, with the time after which to try again; deadlines
//! come from `grpc-timeout`; the service keeps its name, so it goes into `add_service` like any
//! other.
//!
//! ```sh
//! cargo run --features grpc --example tonic
//! ```

mod greeter;

use std::time::Duration;

use futures::future::join_all;
use greeter::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest, hello};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    service::LayerExt,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tower::{BoxError, ServiceBuilder};
use tower_load_leveling::{LoadLevelLayer, grpc, http::Hold};

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
    let calls = (0..12).map(|nth| greet(client.clone(), format!("caller {nth}")));
    let attempts = join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let stats = handle.stats();
    println!("12 calls, answered after {attempts:?} attempts; {} refusals", stats.refused.full);
    ensure(stats.refused.full > 0, "twelve at once should be too many")?;
    ensure(stats.succeeded == 12, "each should be answered in the end")
}

/// Calls until it is answered, when the server says; returns how many attempts that took.
async fn greet(mut client: GreeterClient, name: String) -> Result<u32, Status> {
    let mut attempts = 1;
    loop {
        let status = match client.say_hello(hello(&name)).await {
            Ok(_) => return Ok(attempts),
            Err(status) if status.code() == Code::Unavailable && attempts < 50 => status,
            Err(status) => return Err(status),
        };
        let after = status.metadata().get("grpc-retry-pushback-ms");
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok()).unwrap_or(20);
        tokio::time::sleep(Duration::from_millis(after)).await;
        attempts += 1;
    }
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
