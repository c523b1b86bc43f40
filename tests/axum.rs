//! In axum, through a real socket: one layer is one leveler, wherever it is put.

mod support;

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::Body,
    error_handling::HandleErrorLayer,
    handler::Handler,
    http::{Request, StatusCode},
    routing::get,
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use support::gate::{Gate, Told};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{ServiceBuilder, ServiceExt};
use tower_load_leveling::{Abandon, LoadLevelLayer, error::Rejected};

const ROUTES: [&str; 3] = ["/a", "/b", "/c"];
const REQUESTS: usize = 30;

/// Handlers that notice how many of them run at once.
#[derive(Clone, Default)]
struct Crowd {
    count: Arc<(AtomicUsize, AtomicUsize)>,
    /// A handler waits until there have been as many at once.
    waits_for: usize,
}

impl Crowd {
    /// Returns handlers that wait for each other, since 5 ms may be over before the next begins.
    fn of(waits_for: usize) -> Self {
        Self { waits_for, ..Self::default() }
    }

    async fn visit(self) -> &'static str {
        let (now, peak) = &*self.count;
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        support::eventually("others come", || self.peak() >= self.waits_for).await;
        now.fetch_sub(1, SeqCst);
        "done"
    }

    fn peak(&self) -> usize {
        self.count.1.load(SeqCst)
    }

    fn router(&self) -> Router {
        ROUTES.into_iter().fold(Router::new(), |router, route| {
            let crowd = self.clone();
            router.route(route, get(move || crowd.visit()))
        })
    }
}

/// Turns errors into responses: a refusal into 503, and anything else into 500.
async fn refuse(error: BoxError) -> (StatusCode, String) {
    let refused = error.is::<Rejected>();
    let status =
        if refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, error.to_string())
}

macro_rules! stack {
    ($layer:expr) => {
        ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).layer($layer)
    };
}

fn limit_1() -> LoadLevelLayer {
    LoadLevelLayer::new(REQUESTS, 1)
}

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, base)
}

fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn fetch(client: Client<HttpConnector, Body>, uri: String) -> (StatusCode, String) {
    let response = client.get(uri.parse().expect("a uri")).await.expect("a response");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Sends all requests at once, each on a connection of its own, and returns their statuses.
async fn flood(base: &str) -> Vec<StatusCode> {
    let requests = (0..REQUESTS).map(|i| {
        let uri = format!("{base}{}", ROUTES[i % ROUTES.len()]);
        async move { fetch(client(), uri).await.0 }
    });
    futures::future::join_all(requests).await
}

async fn flood_served(router: Router) -> Vec<StatusCode> {
    let (listener, base) = bind().await;
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let statuses = flood(&base).await;
    server.abort();
    statuses
}

#[track_caller]
fn assert_one_at_a_time(crowd: &Crowd, statuses: &[StatusCode]) {
    assert_eq!(statuses, [StatusCode::OK; REQUESTS], "all fit into the queue");
    assert_eq!(crowd.peak(), 1, "the limit of 1 should hold over all routes and connections");
}

#[tokio::test]
async fn router_layer_under_serve() {
    let _t = support::trace_init();
    // Symptom: `Buffer` + `ConcurrencyLimit(1)` in this place lets 30 handlers run at once.
    let crowd = Crowd::default();
    let statuses = flood_served(crowd.router().layer(stack!(limit_1()))).await;
    assert_one_at_a_time(&crowd, &statuses);
}

#[tokio::test]
async fn router_layer_under_into_make_service() {
    let _t = support::trace_init();
    let crowd = Crowd::default();
    let router = crowd.router().layer(stack!(limit_1()));
    let (listener, base) = bind().await;
    let server =
        tokio::spawn(async move { axum::serve(listener, router.into_make_service()).await });
    let statuses = flood(&base).await;
    server.abort();
    assert_one_at_a_time(&crowd, &statuses);
}

#[tokio::test]
async fn handler_layer() {
    let _t = support::trace_init();
    let (crowd, layer) = (Crowd::default(), limit_1());
    let router = ROUTES.into_iter().fold(Router::new(), |router, route| {
        let crowd = crowd.clone();
        let handler = move || crowd.visit();
        router.route(route, get(handler.layer(stack!(layer.clone()))))
    });
    assert_one_at_a_time(&crowd, &flood_served(router).await);
}

#[tokio::test]
async fn router_called_directly() {
    let _t = support::trace_init();
    let crowd = Crowd::default();
    let router = crowd.router().layer(stack!(limit_1()));
    let requests = (0..REQUESTS).map(|i| {
        let request = Request::get(ROUTES[i % ROUTES.len()]).body(Body::empty());
        let router = router.clone();
        async move { router.oneshot(request.expect("valid")).await.expect("infallible").status() }
    });
    let statuses = futures::future::join_all(requests).await;
    assert_one_at_a_time(&crowd, &statuses);
}

#[tokio::test]
async fn around_the_whole_router() {
    let _t = support::trace_init();
    let crowd = Crowd::default();
    let app = stack!(limit_1()).service(crowd.router());
    let statuses = flood_served(Router::new().fallback_service(app)).await;
    assert_one_at_a_time(&crowd, &statuses);
}

#[tokio::test]
async fn without_the_layer_they_all_run_at_once() {
    let _t = support::trace_init();
    // The control: with it the tests above would fail if the layer did nothing.
    let crowd = Crowd::of(2);
    flood_served(crowd.router()).await;
    assert!(crowd.peak() > 1, "handlers should overlap");
}

#[tokio::test]
async fn buffer_and_concurrency_limit_in_that_place_do_not_hold() {
    let _t = support::trace_init();
    // The symptom itself: if this fails, tower or axum has changed, and so should our docs.
    let crowd = Crowd::of(2);
    let stack = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .buffer::<Request<Body>>(64)
        .concurrency_limit(1);
    flood_served(crowd.router().layer(stack)).await;
    assert!(crowd.peak() > 1, "the limit is made anew for each connection");
}

/// Waits, on the real clock of sockets, until something is the case.
async fn within_10_s(reached: impl Fn() -> bool) -> bool {
    let reached = async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.is_ok()
}

/// A server whose only handler is a gate, and requests to it by number.
struct Gated {
    gate: Gate,
    layer: LoadLevelLayer,
    base: String,
    shutdown: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Gated {
    async fn serve(layer: LoadLevelLayer) -> Self {
        let gate = Gate::new();
        let inner = gate.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let id = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
            let gate = inner.clone();
            async move { gate.service().oneshot(id).await.map(|_| "done".to_owned()) }
        });
        let service = stack!(layer.clone()).service(service);
        let service = service.map_response(axum::response::IntoResponse::into_response);
        let router = Router::new().fallback_service(service);
        let (listener, base) = bind().await;
        let (shutdown, stop) = oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stop.await;
        });
        let server = tokio::spawn(server.into_future());
        Self { gate, layer, base, shutdown: Some(shutdown), server }
    }

    fn request(&self, id: u32) -> tokio::task::JoinHandle<(StatusCode, String)> {
        tokio::spawn(fetch(client(), format!("{}/{id}", self.base)))
    }

    async fn until(&self, queued: usize, in_flight: usize) {
        let handle = self.layer.handle();
        let reached = || {
            let stats = handle.stats();
            (stats.queued, stats.in_flight) == (queued, in_flight)
        };
        let waited = within_10_s(reached).await;
        assert!(waited, "{queued} queued and {in_flight} in flight: {:?}", handle.stats());
    }

    async fn until_called(&self, id: u32) {
        let called = within_10_s(|| self.gate.called().contains(&id)).await;
        assert!(called, "{id} should be called: {:?}", self.layer.handle().stats());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_queued_frees_its_place() {
    let _t = support::trace_init();
    let server = Gated::serve(LoadLevelLayer::new(1, 1)).await;
    let running = server.request(1);
    server.until(0, 1).await;
    let leaves = server.request(2);
    server.until(1, 1).await;
    leaves.abort();
    server.until(0, 1).await;
    let stays = server.request(3);
    server.until(1, 1).await;
    server.gate.finish_all();
    assert_eq!(running.await.expect("no panic").0, StatusCode::OK);
    assert_eq!(stays.await.expect("no panic").0, StatusCode::OK);
    assert_eq!(server.gate.called(), [1, 3], "the handler never runs for the one that left");
}

#[tokio::test]
async fn a_client_that_goes_away_while_running_is_cancelled_or_finished_as_told() {
    let _t = support::trace_init();
    for (abandon, dropped) in [(Abandon::Cancel, vec![1]), (Abandon::Finish, vec![])] {
        let layer = support::builder(1, 1).abandon(abandon).build().expect("valid");
        let server = Gated::serve(layer).await;
        let leaves = server.request(1);
        server.until(0, 1).await;
        leaves.abort();
        let next = server.request(2);
        if abandon == Abandon::Finish {
            server.until(1, 1).await;
            server.gate.finish(1);
        }
        server.until_called(2).await;
        assert_eq!(server.gate.dropped(), dropped);
        server.gate.finish(2);
        assert_eq!(next.await.expect("no panic").0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_panicking_handler_hurts_nobody_else() {
    let _t = support::trace_init();
    let server = Gated::serve(LoadLevelLayer::new(2, 1)).await;
    let panics = server.request(1);
    server.until(0, 1).await;
    let waits = server.request(2);
    server.until(1, 1).await;
    server.gate.end(1, Told::Panic);
    assert!(panics.await.is_err(), "its connection is closed, as without the layer");
    server.gate.finish_all();
    assert_eq!(waits.await.expect("no panic").0, StatusCode::OK);
}

#[tokio::test]
async fn graceful_shutdown_answers_the_admitted_and_refuses_newcomers() {
    let _t = support::trace_init();
    let mut server = Gated::serve(LoadLevelLayer::new(2, 1)).await;
    let admitted: Vec<_> = (1..4).map(|id| server.request(id)).collect();
    server.until(2, 1).await;
    server.layer.handle().close();
    let (status, body) = server.request(9).await.expect("no panic");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("closed"), "{body}");
    drop(server.shutdown.take());
    server.gate.finish_all();
    let report = server.layer.handle().drain(Duration::from_secs(10)).await;
    assert_eq!((report.removed, report.in_flight), (0, 0));
    for call in admitted {
        assert_eq!(call.await.expect("no panic").0, StatusCode::OK);
    }
    server.server.await.expect("no panic").expect("the server ends by itself");
}
