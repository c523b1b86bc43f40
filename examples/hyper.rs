//! Protects a hyper 1 server, without a framework.
//!
//! Shows the same stack as the `axum` example: one leveler behind all connections, refusals as 503
//! with `Retry-After`, a health check beside the queue, and a graceful shutdown.
//!
//! ```sh
//! cargo run --example hyper              # sends itself some requests, and ends
//! cargo run --example hyper -- --serve   # serves on port 3000 until ctrl-c
//! ```

use std::{convert::Infallible, env, pin::pin, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_load_leveling::{Handle, LoadLevelLayer, error::Rejected};

type Answer = Response<Full<Bytes>>;
type App = BoxCloneService<Request<Incoming>, Answer, Infallible>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let leveler = LoadLevelLayer::builder().name("orders").capacity(4).concurrency(2).build()?;
    let handle = leveler.handle();
    let app = app(leveler);

    if env::args().any(|arg| arg == "--serve") {
        let listener = TcpListener::bind("127.0.0.1:3000").await?;
        println!("try: curl -i http://{}/orders", listener.local_addr()?);
        return serve(listener, app, handle, async { drop(tokio::signal::ctrl_c().await) }).await;
    }

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, app, handle, async { drop(stopped.await) }));
    demonstrate(&base).await?;
    drop(stop);
    server.await?
}

fn app(leveler: LoadLevelLayer) -> App {
    let orders = ServiceBuilder::new().layer(leveler).service_fn(order);
    BoxCloneService::new(service_fn(move |request: Request<Incoming>| {
        // A clone for each request; all of them share the one leveler.
        let orders = orders.clone();
        async move {
            Ok(match request.uri().path() {
                // Beside the queue: a busy server is not a dead one.
                "/health" => Response::new("alive".into()),
                _ => orders.oneshot(request).await.unwrap_or_else(refuse),
            })
        }
    }))
}

async fn order(_: Request<Incoming>) -> Result<Answer, Infallible> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(Response::new("ordered".into()))
}

/// Turns an error into a response: hyper would close the connection.
fn refuse(error: BoxError) -> Answer {
    let mut response = Response::new(error.to_string().into());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    if let Some(rejected) = error.downcast_ref::<Rejected>() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        // The header has whole seconds: rounded up, and one when there is nothing to go by.
        let seconds = rejected.retry_after().map_or(1, |wait| wait.as_secs() + 1);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

async fn serve(
    listener: TcpListener,
    app: App,
    handle: Handle,
    stop: impl Future<Output = ()>,
) -> Result<(), BoxError> {
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let shutdown = async {
        stop.await;
        // Connections go on meanwhile, so newcomers still get an answer: 503.
        handle.close();
        println!("drained: {:?}", handle.drain(Duration::from_secs(10)).await);
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut shutdown => break,
        };
        let service = TowerToHyperService::new(app.clone());
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            let result = tokio::select! {
                result = connection.as_mut() => result,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // The other side may go away at any time.
            drop(result);
        });
    }
    drop(stopping);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn demonstrate(base: &str) -> Result<(), BoxError> {
    let burst = try_join_all((0..12).map(|_| get(format!("{base}/orders")))).await?;
    for response in &burst {
        println!(
            "burst: {} retry-after {:?}",
            response.status(),
            response.headers().get(RETRY_AFTER)
        );
    }
    let ordered = burst.iter().filter(|response| response.status() == StatusCode::OK).count();
    let refused = burst.iter().filter(|response| response.headers().contains_key(RETRY_AFTER));
    ensure((6..12).contains(&ordered), "two should run, four wait, and some be refused")?;
    ensure(ordered + refused.count() == 12, "each other one should be told when to come back")?;
    let health = get(format!("{base}/health")).await?;
    ensure(health.status() == StatusCode::OK, "the health check should answer")
}

async fn get(uri: String) -> Result<Response<Incoming>, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    Ok(client.get(uri.parse()?).await?)
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
