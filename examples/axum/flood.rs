//! The load that the example sends to its own server.

use std::time::{Duration, Instant};

use axum::{
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header::AUTHORIZATION},
};
use futures::future::join_all;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::oneshot;
use tower::BoxError;
use tower_load_leveling::Handle;

/// The requests of a tenant: their number, and the milliseconds between two requests.
struct Load {
    title: &'static str,
    key: &'static str,
    path: &'static str,
    requests: u32,
    between: Duration,
}

const LOADS: [Load; 3] = [
    // 333 a second, against a service of 100 a second.
    load("acme, orders", "acme-key", "/orders", 500, 3),
    load("tiny, orders", "tiny-key", "/orders", 25, 60),
    load("acme, checkout", "acme-key", "/checkout", 25, 60),
];

const fn load(
    title: &'static str,
    key: &'static str,
    path: &'static str,
    requests: u32,
    between: u64,
) -> Load {
    Load { title, key, path, requests, between: Duration::from_millis(between) }
}

/// Floods from one tenant. The other tenant and the payments are answered as without a flood.
pub(crate) async fn tenants(base: &str, handle: &Handle) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let flood = join_all(LOADS.map(|load| send_all(client.clone(), base.to_owned(), load)));
    let health = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let start = Instant::now();
        let health = send(&client, "GET", format!("{base}/health"), "").await?;
        let queued = handle.stats().queued;
        println!("health check with {queued} waiting: {}, {:?}", health.status(), start.elapsed());
        ensure(health.status() == StatusCode::OK, "the health check should not be held up")
    };
    let (loads, healthy) = tokio::join!(flood, health);
    healthy?;

    println!("{:<16}{:>8}{:>10}{:>8}{:>8}{:>10}", "", "sent", "answered", "429", "503", "p50");
    let mut refusal = None;
    for (load, answers) in LOADS.iter().zip(loads) {
        let mut times = Vec::new();
        let (mut over_share, mut overloaded) = (0, 0);
        for answer in answers {
            let (response, took) = answer?;
            match response.status() {
                StatusCode::OK => times.push(took),
                StatusCode::TOO_MANY_REQUESTS => over_share += 1,
                _ => overloaded += 1,
            }
            if response.status() != StatusCode::OK {
                refusal = Some(response);
            }
        }
        times.sort();
        let (answered, p50) =
            (times.len(), times.get(times.len() / 2).copied().unwrap_or_default());
        println!(
            "{:<16}{:>8}{answered:>10}{over_share:>8}{overloaded:>8}{:>7} ms",
            load.title,
            load.requests,
            p50.as_millis()
        );
        // Fewer than all, since a machine may stand still now and then.
        if load.requests < 100 {
            ensure(answered >= 20, "a flood should hurt its own tenant only")?;
        }
    }
    let refusal = refusal.ok_or("333 a second should be too many")?;
    println!("\na refusal: {} {:?}", refusal.status(), refusal.headers());
    let body = to_bytes(Body::new(refusal.into_body()), 1 << 10).await?;
    println!("{}\n", String::from_utf8_lossy(&body));
    handle.idle().await;
    Ok(())
}

/// Shuts down with orders under way.
pub(crate) async fn shutdown(
    base: &str,
    handle: &Handle,
    stop: oneshot::Sender<()>,
) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let before = handle.stats().admitted;
    let orders = (0..20).map(|_| {
        let (client, uri) = (client.clone(), format!("{base}/orders"));
        tokio::spawn(async move { send(&client, "POST", uri, "acme-key").await })
    });
    let orders: Vec<_> = orders.collect();
    while handle.stats().admitted < before + 20 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    while !handle.stats().closed {
        tokio::task::yield_now().await;
    }
    let late = send(&client, "POST", format!("{base}/orders"), "tiny-key").await?;
    let ready = send(&client, "GET", format!("{base}/ready"), "").await?;
    println!("closed: an order {}, the readiness check {}", late.status(), ready.status());
    ensure(ready.status() == StatusCode::SERVICE_UNAVAILABLE, "a closed service is not ready")?;
    for order in orders {
        let status = order.await??.status();
        ensure(status == StatusCode::OK, "all that were admitted should be ordered")?;
    }
    ensure(late.status() == StatusCode::SERVICE_UNAVAILABLE, "newcomers should be refused")
}

type Http = Client<HttpConnector, Body>;
type Answer = Result<(Response<hyper::body::Incoming>, Duration), BoxError>;

async fn send_all(client: Http, base: String, load: Load) -> Vec<Answer> {
    let mut sent = Vec::new();
    let mut ticks = tokio::time::interval(load.between);
    for _ in 0..load.requests {
        ticks.tick().await;
        let (client, uri) = (client.clone(), format!("{base}{}", load.path));
        sent.push(tokio::spawn(async move {
            let start = Instant::now();
            Ok((send(&client, "POST", uri, load.key).await?, start.elapsed()))
        }));
    }
    join_all(sent).await.into_iter().map(|answer| answer.map_err(BoxError::from)?).collect()
}

async fn send(
    client: &Http,
    method: &str,
    uri: String,
    key: &str,
) -> Result<Response<hyper::body::Incoming>, BoxError> {
    let request = Request::builder().method(method).uri(uri);
    let request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    Ok(client.request(request.body(Body::empty())?).await?)
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
