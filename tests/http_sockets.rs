//! The HTTP stack in axum, through real sockets.
#![cfg(feature = "http")]

mod support;

use std::{
    convert::Infallible,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    handler::Handler,
    http::{HeaderValue, Method, Response, StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use support::{builder, eventually, gate::Gate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_load_leveling::{
    Handle, LoadLevelLayer,
    http::{Hold, RejectionLayer},
};

type Http = Client<HttpConnector, Body>;

fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

fn client_h2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router).into_future());
    base
}

async fn send(client: &Http, method: Method, uri: String) -> Response<hyper::body::Incoming> {
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).expect("valid");
    client.request(request).await.expect("a response")
}

/// How many there are at once.
#[derive(Clone, Default)]
struct Crowd(Arc<(AtomicUsize, AtomicUsize)>);

/// One of them; until it is dropped.
struct Guest(Crowd);

impl Crowd {
    fn enter(&self) -> Guest {
        let (now, peak) = &*self.0;
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        Guest(self.clone())
    }

    fn peak(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

async fn visit(crowd: Crowd) -> &'static str {
    let _guest = crowd.enter();
    tokio::time::sleep(Duration::from_millis(3)).await;
    "done"
}

const REQUESTS: usize = 30;

/// Sends all at once, each on a connection of its own.
async fn flood(base: &str) {
    let requests =
        (0..REQUESTS).map(|_| async { send(&client(), Method::GET, format!("{base}/")).await });
    assert!(join_all(requests).await.iter().all(|response| response.status() == StatusCode::OK));
}

#[tokio::test]
async fn one_limit_holds_wherever_the_stack_is_put() {
    let _t = support::trace_init();
    let stack = || {
        ServiceBuilder::new().layer(RejectionLayer::new()).layer(LoadLevelLayer::new(REQUESTS, 1))
    };
    let handler = |crowd: &Crowd| {
        let crowd = crowd.clone();
        move || visit(crowd)
    };

    let crowd = Crowd::default();
    flood(&serve(Router::new().route("/", get(handler(&crowd))).layer(stack())).await).await;
    assert_eq!(crowd.peak(), 1, "`Router::layer` under `serve`");

    let crowd = Crowd::default();
    let router = Router::new().route("/", get(handler(&crowd))).layer(stack());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router.into_make_service()).into_future());
    flood(&base).await;
    assert_eq!(crowd.peak(), 1, "`Router::layer` under `into_make_service`");

    let crowd = Crowd::default();
    flood(&serve(Router::new().route("/", get(handler(&crowd).layer(stack())))).await).await;
    assert_eq!(crowd.peak(), 1, "`Handler::layer`");

    let crowd = Crowd::default();
    let router = Router::new().route("/", get(handler(&crowd)));
    let around = stack().service(router);
    flood(&serve(Router::new().fallback_service(around)).await).await;
    assert_eq!(crowd.peak(), 1, "around the whole router");

    let crowd = Crowd::default();
    let router = Router::new().route("/", get(handler(&crowd))).layer(stack());
    let calls = (0..REQUESTS).map(|_| router.clone().oneshot(Request::new(Body::empty())));
    let answers: Vec<Result<_, Infallible>> = join_all(calls).await;
    assert!(answers.iter().flatten().all(|answer| answer.status() == StatusCode::OK));
    assert_eq!(crowd.peak(), 1, "called directly");
}

/// A server whose only handler streams what `make` makes, behind a limit, with slots held to the
/// end.
async fn streaming(
    limit: usize,
    idle: Option<Duration>,
    make: impl Fn(Guest) -> Body + Clone + Send + Sync + 'static,
) -> (String, Crowd, Handle) {
    let crowd = Crowd::default();
    let layer = builder(1000, limit).hold_until(Hold::BodyEnd);
    let layer = match idle {
        Some(idle) => layer.body_idle(idle),
        None => layer,
    };
    let layer = layer.build().expect("valid");
    let handle = layer.handle();
    let guests = crowd.clone();
    let router = Router::new()
        .route("/", get(async move || make(guests.enter())))
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
    (serve(router).await, crowd, handle)
}

#[tokio::test]
async fn a_hundred_bodies_stream_two_at_a_time() {
    let _t = support::trace_init();
    for client in [client, client_h2] {
        // The guest is there until the body has been dropped.
        let (base, crowd, handle) = streaming(2, None, |guest| {
            Body::from_stream(stream::iter(0..5).then(move |_| {
                let _here = &guest;
                async {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    Ok::<_, Infallible>(Bytes::from_static(b"12345"))
                }
            }))
        })
        .await;
        let client = client();
        let bodies = (0..100).map(|_| async {
            let response = send(&client, Method::GET, format!("{base}/")).await;
            response.into_body().collect().await.expect("a body").to_bytes().len()
        });
        assert_eq!(join_all(bodies).await, [25; 100]);
        eventually("all slots come home", || handle.stats().in_flight == 0).await;
        assert_eq!(crowd.peak(), 2);
        assert_eq!(handle.stats().succeeded, 100);
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let _t = support::trace_init();
    let (base, _, handle) = streaming(1, Some(Duration::from_millis(50)), endless).await;
    let mut socket = TcpStream::connect(&base["http://".len()..]).await.expect("it listens");
    socket.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("it reads");
    // And is not read from.
    eventually("it is cut off", || handle.stats().cancelled == 1).await;
    eventually("the slot is free", || handle.stats().in_flight == 0).await;
    drop(socket);
}

#[tokio::test]
async fn streams_of_one_connection_that_are_never_read_are_cut_off() {
    let _t = support::trace_init();
    let (base, _, handle) = streaming(2, Some(Duration::from_millis(50)), endless).await;
    let client = client_h2();
    let open = async || send(&client, Method::GET, format!("{base}/")).await;
    let unread = [open().await, open().await];
    let next = open().await;
    assert_eq!(next.status(), StatusCode::OK, "it waits until a slot is free");
    eventually("all slots are free", || handle.stats().in_flight == 0).await;
    for response in unread {
        response.into_body().collect().await.expect_err("not as if that were all");
    }
}

fn endless(guest: Guest) -> Body {
    Body::from_stream(stream::repeat_with(move || {
        let _here = &guest;
        Ok::<_, Infallible>(Bytes::from_static(&[0; 65536]))
    }))
}

#[tokio::test]
async fn a_body_that_fails_half_way_and_one_that_is_not_sent_give_their_slots_back() {
    let _t = support::trace_init();
    let fails = |guest: Guest| {
        let frames = [Ok(Bytes::from_static(b"half")), Err(BoxError::from("broken"))];
        Body::from_stream(stream::iter(frames).then(move |frame| {
            let _here = &guest;
            async {
                if frame.is_err() {
                    // After the head has been sent.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                frame
            }
        }))
    };
    let (base, _, handle) = streaming(1, None, fails).await;
    let response = send(&client(), Method::GET, format!("{base}/")).await;
    assert!(response.into_body().collect().await.is_err());
    eventually("the slot is free", || handle.stats().in_flight == 0).await;
    assert_eq!(handle.stats().failed, 1);

    let (base, _, handle) = streaming(1, None, |_| Body::from("all of it")).await;
    let response = send(&client(), Method::HEAD, format!("{base}/")).await;
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "9");
    eventually("the slot is free", || handle.stats().in_flight == 0).await;
    assert_eq!(handle.stats().succeeded, 1);
}

#[tokio::test]
async fn a_body_of_which_all_bytes_were_sent_was_not_broken_off() {
    let _t = support::trace_init();
    let layer = builder(1, 1).hold_until(Hold::BodyEnd).build().expect("valid");
    let handle = layer.handle();
    // Such as a file: hyper does not ask for its end, since the head tells its length.
    let file = async || {
        let bytes = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"all of it"))]);
        ([(header::CONTENT_LENGTH, "9")], Body::from_stream(bytes))
    };
    let router = Router::new()
        .route("/", get(file))
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
    let response = send(&client(), Method::GET, serve(router).await).await;
    assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "all of it");
    eventually("the slot is free", || handle.stats().in_flight == 0).await;
    assert_eq!((handle.stats().succeeded, handle.stats().cancelled), (1, 0));
}

#[tokio::test]
async fn a_connection_can_be_upgraded_through_the_layer() {
    let _t = support::trace_init();
    for hold in [Hold::Response, Hold::BodyEnd] {
        upgrade(hold).await;
    }
}

async fn upgrade(hold: Hold) {
    let layer = builder(1, 1).hold_until(hold).build().expect("valid");
    let handle = layer.handle();
    let echo = async |mut request: Request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("upgraded"));
            let mut bytes = [0; 4];
            io.read_exact(&mut bytes).await.expect("four bytes");
            io.write_all(&bytes).await.expect("written");
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "echo")
            .body(Body::empty())
            .expect("valid")
    };
    let router = Router::new()
        .route("/", get(echo))
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
    let base = serve(router).await;
    let request = Request::builder()
        .uri(format!("{base}/"))
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, HeaderValue::from_static("echo"))
        .body(Body::empty())
        .expect("valid");
    let response = client().request(request).await.expect("a response");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
    assert_eq!(handle.stats().in_flight, 0, "the slot is not held by what goes on");
    io.write_all(b"ping").await.expect("written");
    let mut bytes = [0; 4];
    io.read_exact(&mut bytes).await.expect("four bytes");
    assert_eq!(&bytes, b"ping");
}

/// A server whose only handler is a gate, and requests to it by number.
struct Gated {
    gate: Gate,
    handle: Handle,
    base: String,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Gated {
    async fn serve(capacity: usize) -> Self {
        let gate = Gate::new();
        let layer = LoadLevelLayer::new(capacity, 1);
        let handle = layer.handle();
        let inner = gate.clone();
        let handler = move |Path(id): Path<u32>| async move {
            inner.service().oneshot(id).await.map(|_| ()).map_err(|_| StatusCode::BAD_GATEWAY)
        };
        let router = Router::new()
            .route("/{id}", get(handler))
            .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let server = tokio::spawn(server.into_future());
        Self { gate, handle, base, stop: Some(stop), server }
    }

    fn request(&self, client: &Http, id: u32) -> JoinHandle<StatusCode> {
        let (client, uri) = (client.clone(), format!("{}/{id}", self.base));
        tokio::spawn(async move { send(&client, Method::GET, uri).await.status() })
    }

    async fn until_queued(&self, queued: usize) {
        eventually("so many wait", || self.handle.stats().queued == queued).await;
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_while_it_waits_frees_its_place_and_is_never_handled() {
    let _t = support::trace_init();
    let server = Gated::serve(1).await;
    // All on one connection.
    let client = client_h2();
    let running = server.request(&client, 1);
    eventually("it runs", || server.gate.running() == 1).await;
    let leaves = server.request(&client, 2);
    server.until_queued(1).await;
    leaves.abort();
    server.until_queued(0).await;
    let stays = server.request(&client, 3);
    server.until_queued(1).await;
    server.gate.finish_all();
    assert_eq!(running.await.expect("no panic"), StatusCode::OK);
    assert_eq!(stays.await.expect("no panic"), StatusCode::OK);
    assert_eq!(server.gate.called(), [1, 3]);
}

#[tokio::test]
async fn a_shutdown_with_a_full_queue_ends_in_either_order() {
    let _t = support::trace_init();
    for close_first in [true, false] {
        let mut server = Gated::serve(3).await;
        let calls: Vec<_> = (1..5).map(|id| server.request(&client(), id)).collect();
        server.until_queued(3).await;
        let drain = async |server: &Gated| server.handle.drain(Duration::from_millis(20)).await;
        if close_first {
            // As documented: nobody new, those who wait are told, and then the server stops.
            let report = drain(&server).await;
            assert_eq!((report.removed, report.in_flight), (3, 1));
            drop(server.stop.take());
        } else {
            // The server waits for its connections, and these for our queue.
            drop(server.stop.take());
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(drain(&server).await.removed, 3);
        }
        server.gate.finish_all();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.expect("no panic"));
        }
        statuses.sort();
        let refused = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(statuses, [StatusCode::OK, refused, refused, refused]);
        let ended = tokio::time::timeout(Duration::from_secs(20), server.server).await;
        ended.expect("no deadlock").expect("no panic").expect("no error");
    }
}

#[tokio::test]
async fn connections_that_idle_keep_no_place() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(0, 1);
    let handle = layer.handle();
    let router = Router::new()
        .route("/", get(async || "done"))
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
    let base = serve(router).await;
    // Kept alive, each by its own client.
    let clients: Vec<_> = (0..10).map(|_| client()).collect();
    for client in clients.iter().chain(&clients) {
        let response = send(client, Method::GET, format!("{base}/")).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("a body");
    }
    assert_eq!((handle.stats().succeeded, handle.stats().refused.total()), (20, 0));
}
