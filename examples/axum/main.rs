//! Protects the router of an order service with several tenants.
//!
//! Shows fair shares between tenants, from claims that were verified; priorities; deadlines from a
//! header; refusals as `application/problem+json`; a health check and a readiness check beside the
//! queue; metrics for Prometheus on a port of their own; and a graceful shutdown in the right
//! order: stop admitting, drain, exit.
//!
//! ```sh
//! cargo run --features http,prometheus --example axum              # floods itself, and ends
//! cargo run --features http,prometheus --example axum -- --serve   # serves until SIGTERM
//! ```
//!
//! Serves on port 3000, with the metrics on 3001, or on the addresses in `ORDERS` and `METRICS`.

mod flood;
mod readiness;

use std::{env, future::IntoFuture, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        HeaderName, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{BoxError, ServiceBuilder};
use tower_load_leveling::{
    Class, Handle, LoadLevelLayer, Order, Priority,
    error::BuildError,
    http::{ByStatus, HeaderDeadline, ProblemJson, ReadAheadBody, ReadAheadLayer, RejectionLayer},
    prometheus,
};

/// The sender of a request, after verification of the key.
#[derive(Clone, Copy)]
struct Claims {
    tenant: &'static str,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();
    let (app, handle) = app()?;

    if env::args().any(|arg| arg == "--serve") {
        let listener = listen("ORDERS", "127.0.0.1:3000").await?;
        let monitored = listen("METRICS", "127.0.0.1:3001").await?;
        let address = listener.local_addr()?;
        println!(
            "try: curl -i -X POST -H 'Authorization: Bearer acme-key' http://{address}/orders"
        );
        println!("and: curl http://{}/metrics", monitored.local_addr()?);
        tokio::spawn(axum::serve(monitored, monitoring(handle.clone())).into_future());
        return serve(listener, app, handle, told_to_stop()).await;
    }

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(listener, app, handle.clone(), async { drop(stopped.await) });
    let server = tokio::spawn(server);
    flood::tenants(&base, &handle).await?;
    flood::shutdown(&base, &handle, stop).await?;
    server.await?
}

/// The service behind the leveler, and the handle for the rest of the program.
fn app() -> Result<(Router, Handle), BuildError> {
    let deadline = HeaderDeadline::millis(HeaderName::from_static("x-timeout-ms"))
        .at_most(Duration::from_secs(30))
        .by_default(Duration::from_secs(5));
    let leveler = LoadLevelLayer::builder()
        .name("orders")
        .capacity(40)
        .concurrency(4)
        // Under overload the newest requests are answered, and at once.
        .order(Order::AdaptiveLifo)
        .request_classifier((class, deadline))
        .response_classifier(ByStatus::new())
        .build()?;
    let handle = leveler.handle();

    let levelled = ServiceBuilder::new()
        // A request without a valid key takes no place.
        .layer(from_fn(authenticate))
        // `axum::serve` has no settings for the windows of HTTP/2. Without `ReadAheadLayer`, bodies
        // of waiting requests fill the windows, and running requests get no more of their bodies.
        .layer(ReadAheadLayer::new(256 << 10, 64 << 20))
        .map_request(|request: Request<ReadAheadBody<Body>>| request.map(Body::new))
        .layer(RejectionLayer::new().body(ProblemJson))
        .layer(leveler);
    let app = Router::new()
        .route("/orders", post(|| work("ordered")))
        .route("/checkout", post(|| work("paid")))
        .route_layer(levelled)
        // Beside the leveler: answered however long the queue is.
        .route("/health", get(|| async { "alive" }))
        .merge(readiness::readiness(handle.clone()));
    Ok((app, handle))
}

/// Fair between tenants, and payments before all else.
fn class(request: &Request) -> Class {
    // An unverified header would be no flow: callers would invent new values.
    let tenant = request.extensions().get::<Claims>().map(|claims| claims.tenant);
    let class = Class::new().flow(tenant).kind(request.uri().path());
    match request.uri().path() {
        "/checkout" => class.priority(Priority::High),
        _ => class,
    }
}

/// Puts the claims of the caller into the request. A real service would verify a token here.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let key = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let tenant = match key.and_then(|value| value.strip_prefix("Bearer ")) {
        Some("acme-key") => "acme",
        Some("tiny-key") => "tiny",
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    request.extensions_mut().insert(Claims { tenant });
    next.run(request).await
}

/// The backend: 40 ms a call, so 100 calls a second with four at once.
async fn work(answer: &'static str) -> &'static str {
    tokio::time::sleep(Duration::from_millis(40)).await;
    answer
}

/// For a port of the monitoring alone: the text says how loaded the service is.
fn monitoring(handle: Handle) -> Router {
    let metrics = move || {
        let text = prometheus::render(&[handle]);
        async { ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text) }
    };
    Router::new().route("/metrics", get(metrics))
}

async fn listen(variable: &str, default: &str) -> Result<TcpListener, BoxError> {
    let address = env::var(variable).unwrap_or_else(|_| default.to_owned());
    Ok(TcpListener::bind(address).await?)
}

async fn serve(
    listener: TcpListener,
    app: Router,
    handle: Handle,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), BoxError> {
    // Dropped when the drain has ended.
    let (draining, drained) = oneshot::channel::<()>();
    let shutdown = async move {
        let _draining = draining;
        stop.await;
        // The server listens until this future ends, so newcomers still get an answer: 503.
        let report = handle.drain(Duration::from_secs(10)).await;
        println!("drained: {report:?}");
    };
    // The server waits for open connections as long as clients hold them: hence a hard stop.
    let too_late = async {
        drop(drained.await);
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let served = axum::serve(listener, app).with_graceful_shutdown(shutdown).into_future();
    tokio::select! {
        served = served => Ok(served?),
        () = too_late => Ok(()),
    }
}

/// Ctrl-c in a terminal; SIGTERM from systemd, Docker and Kubernetes.
async fn told_to_stop() {
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
