//! The stack among the layers of tower-http, on both sides of it and without annotations, through
//! real sockets: axum and hyper as servers, reqwest and hyper-util as clients.
#![cfg(feature = "http")]

mod support;

use std::{convert::Infallible, future::IntoFuture, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use support::{builder, gate::Gate};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer,
    limit::RequestBodyLimitLayer, timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_load_leveling::{
    Handle, LoadLevelLayer,
    http::{Hold, ProblemJson, RejectionLayer},
};

/// A router with a gate at `/held`, a panic at `/panic`, an echo at `/echo`, and a long text at
/// `/text`.
fn routes(gate: &Gate) -> Router {
    let gate = gate.clone();
    let held = async move || {
        let held = gate.service().oneshot(1).await;
        held.map(|_| "held").map_err(|_| StatusCode::BAD_GATEWAY)
    };
    let panics = async || -> &'static str { panic!("the handler panics") };
    Router::new()
        .route("/held", get(held))
        .route("/panic", get(panics))
        .route("/echo", post(async |body: Bytes| body))
        .route("/text", get(async || "a text that is worth compressing, ".repeat(100)))
}

/// One stack for all: every layer outside of the leveler, and every layer inside.
macro_rules! stack {
    ($leveler:expr) => {
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyLimitLayer::new(1 << 20))
            .layer(CorsLayer::permissive().expose_headers([header::RETRY_AFTER]))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::GATEWAY_TIMEOUT,
                Duration::from_secs(60),
            ))
            .layer(RejectionLayer::new().body(ProblemJson))
            .layer($leveler)
            .layer(CompressionLayer::new())
            .layer(TraceLayer::new_for_http())
            .layer(CatchPanicLayer::new())
            .layer(RequestBodyLimitLayer::new(1000))
    };
}

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, base)
}

type Http = Client<HttpConnector, Body>;

fn clients() -> [(&'static str, Http); 2] {
    let client = |h2| Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    [("HTTP/1.1", client(false)), ("HTTP/2", client(true))]
}

async fn send(client: &Http, request: Request<Body>) -> Response<Bytes> {
    let response = client.request(request).await.expect("a response");
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.expect("a body").to_bytes())
}

fn request(method: &str, uri: String, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri).header(header::ORIGIN, "http://a");
    request.body(body.into()).expect("valid")
}

/// Sends the requests that each layer has something to do with.
async fn check(protocol: &str, client: &Http, base: &str, gate: &Gate, handle: &Handle) {
    let send = async |method, path, body: Body| {
        send(client, request(method, format!("{base}{path}"), body)).await
    };
    let text = request("GET", format!("{base}/text"), Body::empty());
    let mut zipped = text;
    zipped.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let zipped = self::send(client, zipped).await;
    assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip", "{protocol}");
    assert!(zipped.body().len() < 1000, "{protocol}");
    assert_eq!(send("GET", "/text", Body::empty()).await.body().len(), 3400, "{protocol}");

    let panicked = send("GET", "/panic", Body::empty()).await;
    assert_eq!(panicked.status(), StatusCode::INTERNAL_SERVER_ERROR, "{protocol}");
    let large = send("POST", "/echo", vec![0; 1001].into()).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE, "{protocol}");
    let echo = send("POST", "/echo", "hello".into()).await;
    assert_eq!((echo.status(), &echo.body()[..]), (StatusCode::OK, &b"hello"[..]), "{protocol}");
    support::eventually("all slots come home", || handle.stats().in_flight == 0).await;

    // With a limit of 1 and no room to wait, the second is refused.
    let (client, uri) = (client.clone(), format!("{base}/held"));
    let held =
        tokio::spawn(async move { self::send(&client, request("GET", uri, Body::empty())).await });
    support::eventually("it runs", || gate.running() == 1).await;
    let refused = send("GET", "/text", Body::empty()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{protocol}");
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json", "{protocol}");
    let length = refused.body().len().to_string();
    assert_eq!(refused.headers()[header::CONTENT_LENGTH], length, "{protocol}");
    // A script of another site can read it, since CORS exposes it.
    assert!(refused.headers().contains_key(header::RETRY_AFTER), "{protocol}");
    assert_eq!(refused.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS], "retry-after");
    gate.finish_all();
    let held = held.await.expect("no panic");
    assert_eq!((held.status(), &held.body()[..]), (StatusCode::OK, &b"held"[..]), "{protocol}");
    support::eventually("all slots come home", || handle.stats().in_flight == 0).await;
}

#[tokio::test]
async fn the_layers_of_tower_http_stand_on_both_sides_in_axum() {
    let _t = support::trace_init();
    for (protocol, client) in clients() {
        let gate = Gate::new();
        let leveler = LoadLevelLayer::new(0, 1);
        let handle = leveler.handle();
        let (listener, base) = bind().await;
        let app = routes(&gate).layer(stack!(leveler));
        tokio::spawn(axum::serve(listener, app).into_future());
        check(protocol, &client, &base, &gate, &handle).await;
    }
}

#[tokio::test]
async fn the_layers_of_tower_http_stand_around_bodies_that_hold_slots() {
    let _t = support::trace_init();
    for (protocol, client) in clients() {
        let gate = Gate::new();
        let held = builder(0, 1).hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(60));
        let leveler = held.server_timing().build().expect("valid");
        let handle = leveler.handle();
        let (listener, base) = bind().await;
        let app = routes(&gate).layer(stack!(leveler));
        tokio::spawn(axum::serve(listener, app).into_future());
        check(protocol, &client, &base, &gate, &handle).await;
    }
}

/// Serves a tower service on hyper, without a framework.
async fn serve<S, B>(service: S) -> String
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
{
    let (listener, base) = bind().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("it listens");
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    base
}

#[tokio::test]
async fn the_layers_of_tower_http_stand_on_both_sides_in_hyper() {
    let _t = support::trace_init();
    for (protocol, client) in clients() {
        let gate = Gate::new();
        let leveler = builder(0, 1).hold_until(Hold::BodyEnd).build().expect("valid");
        let handle = leveler.handle();
        let base = serve(stack!(leveler).service(routes(&gate))).await;
        check(protocol, &client, &base, &gate, &handle).await;
    }
}

#[tokio::test]
async fn each_layer_of_tower_http_may_be_the_only_one_inside() {
    let _t = support::trace_init();
    macro_rules! alone {
        ($layer:expr) => {{
            let stack = ServiceBuilder::new()
                .layer(RejectionLayer::new())
                .layer(LoadLevelLayer::new(1, 1))
                .layer($layer);
            let inner = service_fn(async |_: Request<_>| {
                Ok::<_, Infallible>(Response::new(Body::from("served")))
            });
            let Ok(answer) = stack.service(inner).oneshot(Request::new(Body::empty())).await;
            let body = answer.into_body().collect().await.expect("no error").to_bytes();
            assert_eq!(body, "served");
        }};
    }
    alone!(TraceLayer::new_for_http());
    alone!(RequestBodyLimitLayer::new(10));
    alone!(CompressionLayer::new());
    alone!(CatchPanicLayer::new());
}

#[tokio::test]
async fn reqwest_reads_a_refusal() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let leveler = LoadLevelLayer::new(0, 1);
    let (listener, base) = bind().await;
    let app = routes(&gate).layer(stack!(leveler));
    tokio::spawn(axum::serve(listener, app).into_future());
    let client = reqwest::Client::new();
    let held = tokio::spawn(client.get(format!("{base}/held")).send());
    support::eventually("it runs", || gate.running() == 1).await;
    let refused = client.get(format!("{base}/text")).send().await.expect("a response");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem = refused.text().await.expect("a body");
    assert!(problem.contains("The service is overloaded. Try again in "), "{problem}");
    gate.finish_all();
    assert_eq!(held.await.expect("no panic").expect("a response").status(), StatusCode::OK);
}
