//! Protects a hyper 1 server, without a framework.
//!
//! Shows the same stack as the `axum` example: one leveler behind all connections, refusals as 503
//! with `Retry-After`, a health check beside the queue, and a graceful shutdown.
//!
//! ```sh
//! cargo run --features http --example hyper              # sends itself some requests, and ends
//! cargo run --features http --example hyper -- --serve   # serves on port 3000 until ctrl-c
//! ```

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_load_leveling::{
    Class, LoadLevelLayer,
    http::{PlainText, RejectionLayer},
};

const STREAMS: u32 = 128;
/// In bytes.
const STREAM_WINDOW: u32 = 64 << 10;

type Answer = Response<Full<Bytes>>;

/// A function as the classifier, so that the type can be named.
type Leveler = LoadLevelLayer<fn(&Request<Incoming>) -> Class>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    let leveler: Leveler = LoadLevelLayer::builder()
        .name("orders")
        .capacity(4)
        .concurrency(2)
        .max_wait(Duration::from_secs(2))
        .classify_request(class as fn(&Request<Incoming>) -> Class)
        .build()?;

    if env::args().any(|arg| arg == "--serve") {
        let listener = TcpListener::bind("127.0.0.1:3000").await?;
        println!("try: curl -i http://{}/orders", listener.local_addr()?);
        return serve(listener, leveler, async { drop(tokio::signal::ctrl_c().await) }).await;
    }

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, leveler, async { drop(stopped.await) }));
    demonstrate(&base).await?;
    drop(stop);
    server.await?
}

fn class(request: &Request<Incoming>) -> Class {
    match request.uri().path() {
        // Beside the queue: a busy server is not a dead one.
        "/health" => Class::bypass(),
        _ => Class::new(),
    }
}

/// The handlers of one connection: a service of hyper's own, called by `&self`.
struct App {
    peer: SocketAddr,
}

impl Service<Request<Incoming>> for App {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let peer = self.peer;
        Box::pin(async move {
            if request.uri().path() == "/health" {
                return Ok(Response::new("alive".into()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(Response::new(format!("ordered by {peer}").into()))
        })
    }
}

async fn serve(
    listener: TcpListener,
    leveler: Leveler,
    stop: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    let connections = GracefulShutdown::new();
    let shutdown = async {
        stop.await;
        // Connections go on meanwhile, so newcomers still get an answer: 503.
        println!("drained: {:?}", leveler.handle().drain(Duration::from_secs(10)).await);
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut shutdown => break,
        };
        let app = App { peer };
        // One leveler for all connections, around the handlers of this one.
        let stack = ServiceBuilder::new()
            .layer(RejectionLayer::new().body(PlainText))
            .layer(leveler.clone())
            .service(service_fn(move |request| app.call(request)));
        let mut server = auto::Builder::new(TokioExecutor::new());
        // The bodies of waiting requests must not fill the window of an HTTP/2 connection, or
        // requests that run get no more of their own.
        server
            .http2()
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAMS * STREAM_WINDOW);
        stream.set_nodelay(true)?;
        let connection = server
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack))
            .into_owned();
        // The result says whether the other side went away, which it may at any time.
        tokio::spawn(connections.watch(connection));
    }
    connections.shutdown().await;
    Ok(())
}

async fn demonstrate(base: &str) -> Result<(), BoxError> {
    let start = Instant::now();
    let burst = (0..12).map(|_| async {
        let response = get(format!("{base}/orders")).await?;
        Ok::<_, BoxError>((start.elapsed(), response))
    });
    let health = async {
        // The queue is full by now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        let health = get(format!("{base}/health")).await?;
        Ok((start.elapsed(), health))
    };
    let (mut burst, (took, health)) = tokio::try_join!(try_join_all(burst), health)?;
    burst.sort_by_key(|(at, _)| *at);
    println!("12 orders at once, two run and four may wait, 200 ms each:");
    for (at, response) in &burst {
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok());
        let hint = retry_after.map(|seconds| format!(", again in {seconds} s"));
        let (status, hint) = (response.status(), hint.unwrap_or_default());
        println!("{:>5} ms  {status}{hint}", at.as_millis());
    }
    println!("the health check meanwhile: {}, after {took:?}", health.status());
    let burst: Vec<_> = burst.into_iter().map(|(_, response)| response).collect();
    let ordered = burst.iter().filter(|response| response.status() == StatusCode::OK).count();
    let refused = burst.iter().filter(|response| response.headers().contains_key(RETRY_AFTER));
    ensure((6..12).contains(&ordered), "two should run, four wait, and some be refused")?;
    ensure(ordered + refused.count() == 12, "each other one should be told when to come back")?;
    ensure(health.status() == StatusCode::OK, "the health check should answer")
}

async fn get(uri: String) -> Result<Response<Incoming>, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    Ok(client.get(uri.parse()?).await?)
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
