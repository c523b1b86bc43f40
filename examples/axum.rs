//! Protects the handlers of an axum router that use a slow backend.
//!
//! Shows refusals as responses (503 with `Retry-After`), deadlines from a header, a health check
//! that goes past a full queue, and a graceful shutdown in the right order: stop admitting, drain,
//! exit.
//!
//! ```sh
//! cargo run --features http --example axum              # sends itself some requests, and ends
//! cargo run --features http --example axum -- --serve   # serves on port 3000 until ctrl-c
//! ```

use std::{env, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, Request, StatusCode, header::RETRY_AFTER},
    response::Response,
    routing::{get, post},
};
use futures::future::try_join_all;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{BoxError, ServiceBuilder};
use tower_load_leveling::{
    Class, ClassifyRequest, Handle, LoadLevelLayer,
    error::BuildError,
    http::{ByStatus, HeaderDeadline, PlainText, ReadAheadBody, ReadAheadLayer, RejectionLayer},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let leveler = leveler()?;
    let handle = leveler.handle();
    let app = app(leveler);

    if env::args().any(|arg| arg == "--serve") {
        let listener = TcpListener::bind("127.0.0.1:3000").await?;
        println!("try: curl -i -X POST http://{}/orders", listener.local_addr()?);
        let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
        return serve(listener, app, handle, ctrl_c).await;
    }

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(listener, app, handle.clone(), async { drop(stopped.await) });
    let server = tokio::spawn(server);
    demonstrate(&base, &handle, stop).await?;
    server.await?
}

/// Health checks go past the queue, and orders wait no longer than their client says.
fn leveler() -> Result<LoadLevelLayer<impl Classifier, ByStatus>, BuildError> {
    let health = |request: &Request<Body>| match request.uri().path() {
        "/health" => Class::bypass(),
        _ => Class::new(),
    };
    let deadline = HeaderDeadline::millis(HeaderName::from_static("x-timeout-ms"))
        .by_default(Duration::from_secs(5));
    LoadLevelLayer::builder()
        .name("orders")
        .capacity(4)
        .concurrency(2)
        .request_classifier((health, deadline))
        .response_classifier(ByStatus::new())
        .build()
}

trait Classifier: ClassifyRequest<Request<Body>> + Send + Sync + 'static {}
impl<C: ClassifyRequest<Request<Body>> + Send + Sync + 'static> Classifier for C {}

fn app(leveler: LoadLevelLayer<impl Classifier, ByStatus>) -> Router {
    let rejections =
        RejectionLayer::new().reason_header(HeaderName::from_static("x-reason")).body(PlainText);
    Router::new().route("/orders", post(order)).route("/health", get(|| async { "alive" })).layer(
        ServiceBuilder::new()
            // `axum::serve` has no settings for the windows of HTTP/2. Without this, bodies of
            // waiting requests fill them, and requests that run get no more of their own.
            .layer(ReadAheadLayer::new(256 << 10, 64 << 20))
            .map_request(|request: Request<ReadAheadBody<Body>>| request.map(Body::new))
            .layer(rejections)
            .layer(leveler),
    )
}

async fn order() -> &'static str {
    tokio::time::sleep(Duration::from_millis(200)).await;
    "ordered"
}

async fn serve(
    listener: TcpListener,
    app: Router,
    handle: Handle,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), BoxError> {
    let shutdown = async move {
        stop.await;
        // The server listens until this future ends, so newcomers still get an answer: 503.
        handle.close();
        let report = handle.drain(Duration::from_secs(10)).await;
        println!("drained: {report:?}");
    };
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await?;
    Ok(())
}

/// Sends a burst of orders, and then shuts down with some of them under way.
async fn demonstrate(
    base: &str,
    handle: &Handle,
    stop: oneshot::Sender<()>,
) -> Result<(), BoxError> {
    let burst = try_join_all((0..12).map(|_| send("POST", format!("{base}/orders"))));
    let health = async {
        while handle.stats().refused.full == 0 {
            tokio::task::yield_now().await;
        }
        send("GET", format!("{base}/health")).await
    };
    let (burst, health) = tokio::try_join!(burst, health)?;
    for response in &burst {
        println!(
            "burst: {} retry-after {:?}",
            response.status(),
            response.headers().get(RETRY_AFTER)
        );
    }
    println!("health check while the queue was full: {}", health.status());
    ensure(health.status() == StatusCode::OK, "the health check should not be held up")?;
    let ordered = burst.iter().filter(|response| response.status() == StatusCode::OK).count();
    ensure((6..12).contains(&ordered), "two should run, four wait, and some be refused")?;
    let refused = burst.iter().filter(|response| response.headers().contains_key(RETRY_AFTER));
    ensure(ordered + refused.count() == 12, "each other one should be told when to come back")?;

    // Now with every place taken, so that nobody else comes in before the leveler is closed.
    handle.idle().await;
    let orders = (0..6).map(|_| tokio::spawn(send("POST", format!("{base}/orders"))));
    let orders: Vec<_> = orders.collect();
    while handle.stats().in_flight + handle.stats().queued < 6 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    while handle.stats().refused.closed == 0 {
        send("POST", format!("{base}/orders")).await?;
    }
    println!("closed: newcomers are refused, those admitted are finished");
    for order in orders {
        ensure(
            order.await??.status() == StatusCode::OK,
            "all that were admitted should be ordered",
        )?;
    }
    Ok(())
}

async fn send(method: &str, uri: String) -> Result<Response<hyper::body::Incoming>, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    Ok(client.request(Request::builder().method(method).uri(uri).body(Body::empty())?).await?)
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
