//! On hyper 1 without a framework, through real sockets: in front of a server, and of a client.

mod support;

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use support::gate::Gate;
use tokio::{net::TcpListener, task::JoinHandle};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, timeout::error::Elapsed,
    util::BoxCloneService,
};
use tower_load_leveling::{Handle, LoadLevelLayer, Overflow, error::Rejected};

const REQUESTS: usize = 30;

/// Nothing takes that long: it turns what would hang into a failure.
const PATIENCE: Duration = Duration::from_secs(5);

type Reply = Response<String>;
type App = BoxCloneService<Request<Incoming>, Reply, Infallible>;
type HttpClient = Client<HttpConnector, Empty<Bytes>>;

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

    async fn visit(self) -> Result<Reply, Infallible> {
        let (now, peak) = &*self.count;
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        support::eventually("others come", || self.peak() >= self.waits_for).await;
        now.fetch_sub(1, SeqCst);
        Ok(Response::new("done".to_owned()))
    }

    fn peak(&self) -> usize {
        self.count.1.load(SeqCst)
    }

    fn unprotected(&self) -> App {
        let crowd = self.clone();
        BoxCloneService::new(service_fn(move |_| crowd.clone().visit()))
    }

    fn behind(&self, layer: LoadLevelLayer) -> App {
        protect(layer, self.unprotected())
    }
}

/// The layer around `inner`, with refusals as 503 and anything else as 500.
fn protect<S>(layer: LoadLevelLayer, inner: S) -> App
where
    S: Service<Request<Incoming>, Response = Reply> + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
{
    let service = layer.layer(inner);
    BoxCloneService::new(service_fn(move |request| {
        let service = service.clone();
        async move { Ok(service.oneshot(request).await.unwrap_or_else(refuse)) }
    }))
}

fn refuse(error: BoxError) -> Reply {
    let mut response = Response::new(error.to_string());
    *response.status_mut() = match error.downcast_ref::<Rejected>() {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    response
}

/// Runs a gate's calls, numbered by the path of the request.
fn gated(gate: &Gate, layer: LoadLevelLayer) -> App {
    let gate = gate.clone();
    protect(
        layer,
        service_fn(move |request: Request<Incoming>| {
            let id = request.uri().path().trim_start_matches('/').parse();
            let call = gate.service().oneshot(id.expect("the path is a number"));
            async move { call.await.map(|id| Response::new(id.to_string())) }
        }),
    )
}

#[derive(Clone, Copy, Debug)]
enum Server {
    Http1,
    Auto,
}

/// A server that is stopped when this is dropped, with all its connections.
struct Served {
    base: String,
    accepts: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn serve(server: Server, app: App) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let accepts = async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = TowerToHyperService::new(app.clone());
            let io = TokioIo::new(stream);
            connections.spawn(async move {
                // Clients close as they like; what they saw is what is asserted.
                match server {
                    Server::Http1 => {
                        drop(http1::Builder::new().serve_connection(io, service).await);
                    }
                    Server::Auto => {
                        let builder = auto::Builder::new(TokioExecutor::new());
                        drop(builder.serve_connection(io, service).await);
                    }
                }
            });
        }
    };
    Served { base, accepts: tokio::spawn(accepts) }
}

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Knows without asking that the server speaks HTTP/2, and sends all it has over one connection.
fn client_h2() -> HttpClient {
    Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).http2_only(true).build_http()
}

fn request(base: &str, id: usize) -> Request<Empty<Bytes>> {
    Request::get(format!("{base}/{id}")).body(Empty::new()).expect("a uri")
}

async fn status(client: &HttpClient, base: &str, id: usize) -> StatusCode {
    let response = tokio::time::timeout(PATIENCE, client.request(request(base, id))).await;
    response.expect("an answer in time").expect("a response").status()
}

/// Sends all requests at once, spread evenly over `clients`.
async fn flood(clients: &[HttpClient], base: &str) -> Vec<StatusCode> {
    join_all((0..REQUESTS).map(|id| status(&clients[id % clients.len()], base, id))).await
}

/// Waits, on the real clock of sockets, until the leveler is in that state.
async fn until(handle: &Handle, queued: usize, in_flight: usize) {
    let reached = async {
        loop {
            let stats = handle.stats();
            if (stats.queued, stats.in_flight) == (queued, in_flight) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "{queued} queued and {in_flight} in flight: {:?}", handle.stats());
}

#[tokio::test]
async fn one_limit_holds_over_all_http1_connections() {
    let _t = support::trace_init();
    // Symptom: a queue made inside `layer()` or cloned for each connection is a limit per
    // connection.
    for server in [Server::Http1, Server::Auto] {
        let crowd = Crowd::default();
        let served = serve(server, crowd.behind(LoadLevelLayer::new(REQUESTS, 1))).await;
        let clients: Vec<_> = (0..REQUESTS).map(|_| client()).collect();
        let statuses = flood(&clients, &served.base).await;
        assert_eq!(statuses, [StatusCode::OK; REQUESTS], "all fit into the queue");
        assert_eq!(crowd.peak(), 1, "the limit should hold over connections, with {server:?}");
    }
}

#[tokio::test]
async fn one_limit_holds_over_all_http2_streams_and_connections() {
    let _t = support::trace_init();
    let crowd = Crowd::of(2);
    let served = serve(Server::Auto, crowd.behind(LoadLevelLayer::new(REQUESTS, 2))).await;
    let clients: Vec<_> = (0..3).map(|_| client_h2()).collect();
    let statuses = flood(&clients, &served.base).await;
    assert_eq!(statuses, [StatusCode::OK; REQUESTS], "all fit into the queue");
    assert_eq!(crowd.peak(), 2, "the limit should be used, and hold over streams and connections");
}

#[tokio::test]
async fn without_the_layer_handlers_overlap() {
    let _t = support::trace_init();
    // The control: with it the tests above would fail if the layer did nothing.
    for clients in [(0..REQUESTS).map(|_| client()).collect(), vec![client_h2()]] {
        let crowd = Crowd::of(3);
        let served = serve(Server::Auto, crowd.unprotected()).await;
        flood(&clients, &served.base).await;
        assert!(crowd.peak() > 2, "handlers should overlap");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_answered_503_and_the_connection_goes_on() {
    let _t = support::trace_init();
    for client in [client(), client_h2()] {
        let (gate, layer) = (Gate::new(), LoadLevelLayer::new(0, 1));
        let handle = layer.handle();
        let served = serve(Server::Auto, gated(&gate, layer)).await;
        let mut running = pin!(status(&client, &served.base, 1));
        tokio::select! {
            _ = &mut running => panic!("the gate is shut"),
            () = until(&handle, 0, 1) => {}
        }
        let refused = status(&client, &served.base, 2).await;
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        gate.finish_all();
        assert_eq!(running.await, StatusCode::OK);
        assert_eq!(status(&client, &served.base, 3).await, StatusCode::OK);
        assert_eq!(gate.called(), [1, 3], "the handler should never see the one refused");
    }
}

#[tokio::test]
async fn a_request_given_up_while_it_waits_frees_its_place() {
    let _t = support::trace_init();
    // Over HTTP/1.1 the connection is closed, over HTTP/2 the stream is reset and its connection
    // goes on.
    for client in [client(), client_h2()] {
        let (gate, layer) = (Gate::new(), LoadLevelLayer::new(1, 1));
        let handle = layer.handle();
        let served = serve(Server::Auto, gated(&gate, layer)).await;
        let call = |id| {
            let (client, base) = (client.clone(), served.base.clone());
            tokio::spawn(async move { status(&client, &base, id).await })
        };
        let running = call(1);
        until(&handle, 0, 1).await;
        let leaves = call(2);
        until(&handle, 1, 1).await;
        leaves.abort();
        until(&handle, 0, 1).await;
        let stays = call(3);
        until(&handle, 1, 1).await;
        gate.finish_all();
        assert_eq!(running.await.expect("no panic"), StatusCode::OK);
        assert_eq!(stays.await.expect("no panic"), StatusCode::OK);
        assert_eq!(gate.called(), [1, 3], "the handler should never run for the one that left");
    }
}

// In front of a client.

fn outgoing(capacity: usize, limit: usize) -> LoadLevelLayer {
    support::builder(capacity, limit).overflow(Overflow::Wait).build().expect("valid")
}

#[tokio::test]
async fn outgoing_calls_wait_and_never_pass_the_limit() {
    let _t = support::trace_init();
    let crowd = Crowd::default();
    let served = serve(Server::Http1, crowd.unprotected()).await;
    let layer = outgoing(2, 3);
    let service = ServiceBuilder::new().timeout(PATIENCE).layer(layer.clone()).service(client());
    let calls = (0..REQUESTS).map(|id| service.clone().oneshot(request(&served.base, id)));
    for result in join_all(calls).await {
        let status = result.expect("callers wait in `poll_ready`, and are not refused").status();
        assert_eq!(status, StatusCode::OK);
    }
    assert!(crowd.peak() <= 3, "{} calls reached the server at once", crowd.peak());
    let stats = layer.handle().stats();
    assert_eq!((stats.succeeded, stats.refused.total()), (REQUESTS as u64, 0));
}

#[tokio::test]
async fn without_the_layer_outgoing_calls_overlap() {
    let _t = support::trace_init();
    // The control: with it the test above would fail if the layer did nothing.
    let crowd = Crowd::of(4);
    let served = serve(Server::Http1, crowd.unprotected()).await;
    flood(&[client()], &served.base).await;
    assert!(crowd.peak() > 3, "calls should overlap at the server");
}

#[tokio::test]
async fn a_timeout_outside_frees_the_places_of_outgoing_calls() {
    let _t = support::trace_init();
    let (gate, server_side) = (Gate::new(), LoadLevelLayer::new(8, 8));
    let at_server = server_side.handle();
    let served = serve(Server::Http1, gated(&gate, server_side)).await;
    let layer = outgoing(1, 1);
    let timeout = Duration::from_secs(60 * 60);
    let service = ServiceBuilder::new().timeout(timeout).layer(layer.clone()).service(client());
    let calls = (0..2).map(|id| service.clone().oneshot(request(&served.base, id)));
    let calls = tokio::spawn(join_all(calls));
    until(&at_server, 0, 1).await;
    // The clock is stopped and goes on by the timeout, so none is over before the server is called.
    tokio::time::pause();
    tokio::time::advance(timeout).await;
    tokio::time::resume();
    for result in calls.await.expect("no panic") {
        let error = result.expect_err("the server does not answer");
        assert!(error.is::<Elapsed>(), "the timeout should fire: {error:?}");
    }
    until(&layer.handle(), 0, 0).await;
    until(&at_server, 0, 0).await;
    assert_eq!(gate.called(), [0], "the one that waited should never be sent");
    gate.finish_all();
    let response = service.oneshot(request(&served.base, 2)).await.expect("there is a place");
    assert_eq!(response.status(), StatusCode::OK);
}
