//! Bodies of waiting requests over real connections: in nobody's way, and clients are seen to
//! leave.
#![cfg(feature = "grpc")]

#[allow(dead_code, reason = "shared with the example")]
#[path = "../examples/tonic/greeter.rs"]
mod greeter;
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

use axum::{Router, body::Body, extract::Request, routing::post};
use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use greeter::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest, hello};
use http::StatusCode;
use hyper_util::client::legacy::{Client, connect::Connect};
use support::{builder, sockets, wires};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{
    Status,
    service::LayerExt,
    transport::{Channel, Server},
};
use tower::{ServiceBuilder, util::option_layer};
use tower_load_leveling::{
    Handle, LoadLevelLayer, grpc,
    http::{ReadAheadBody, ReadAheadLayer, RejectionLayer},
};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to see that nothing happens.
const MOMENT: Duration = Duration::from_millis(500);

/// A server whose handler reads the body, with a gate before and after.
struct Uploads {
    base: String,
    handle: Handle,
    gate: Arc<Semaphore>,
    called: Arc<AtomicUsize>,
}

impl Uploads {
    async fn serve(limit: usize, ahead: Option<ReadAheadLayer>) -> Self {
        let (server, router) = Self::new(limit, ahead);
        Self { base: sockets::serve(router).await, ..server }
    }

    /// Serves over connections in memory.
    fn serve_wires(limit: usize, ahead: ReadAheadLayer) -> Self {
        let (server, router) = Self::new(limit, Some(ahead));
        Self { base: wires::serve(router), ..server }
    }

    fn new(limit: usize, ahead: Option<ReadAheadLayer>) -> (Self, Router) {
        let leveler = LoadLevelLayer::new(1000, limit);
        let handle = leveler.handle();
        let (gate, called) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let inside = (Arc::clone(&gate), Arc::clone(&called));
        let handler = post(async move |request: Request| {
            let (gate, called) = inside;
            called.fetch_add(1, SeqCst);
            gate.acquire().await.expect("open").forget();
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            body.map_or(StatusCode::BAD_REQUEST.to_string(), |body| body.len().to_string())
        });
        let levelled = ServiceBuilder::new().layer(RejectionLayer::new()).layer(leveler);
        let router = Router::new().route("/", handler).layer(levelled);
        let router = match ahead {
            Some(ahead) => router.layer(ahead),
            None => router,
        };
        (Self { base: String::new(), handle, gate, called }, router)
    }

    fn upload<C>(&self, client: &Client<C, Body>, size: usize) -> JoinHandle<(StatusCode, String)>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let (client, base) = (client.clone(), format!("{}/", self.base));
        tokio::spawn(async move {
            let answer = sockets::post(client, base, chunks(size)).await;
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(Body::new(body), 1000).await.expect("short");
            (parts.status, String::from_utf8_lossy(&body).into_owned())
        })
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.base["http://".len()..]).await.expect("it listens")
    }

    async fn until(&self, queued: usize, in_flight: usize) {
        support::eventually("so many wait and run", || {
            let stats = self.handle.stats();
            (stats.queued, stats.in_flight) == (queued, in_flight)
        })
        .await;
    }
}

/// A body that comes piece by piece. If it came in one, hyper would send one body after the other.
fn chunks(size: usize) -> Body {
    let chunk = move |from: usize| Bytes::from(vec![0; (size - from).min(16 << 10)]);
    let chunks = (0..size).step_by(16 << 10).map(move |from| Ok::<_, Infallible>(chunk(from)));
    Body::from_stream(stream::iter(chunks).then(async |chunk| {
        tokio::task::yield_now().await;
        chunk
    }))
}

/// The head of a request over HTTP/1.1.
fn head(size: usize, more: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: {size}\r\n{more}\r\n")
}

#[tokio::test]
async fn uploads_that_wait_do_not_starve_the_one_that_runs_on_their_connection() {
    let _t = support::trace_init();
    let ahead = ReadAheadLayer::new(MIB, 16 * MIB);
    let held = ahead.handle();
    let server = Uploads::serve(1, Some(ahead)).await;
    let client = sockets::client_h2();
    let uploads: Vec<_> = (0..3).map(|_| server.upload(&client, MIB)).collect();
    server.until(2, 1).await;
    // All that can come has come before the first is read.
    support::eventually("all are read ahead", || held.held() >= 3 * MIB).await;
    server.gate.add_permits(3);
    for upload in uploads {
        let answer = timeout(PATIENCE, upload).await.expect("not starved").expect("no panic");
        assert_eq!(answer, (StatusCode::OK, MIB.to_string()));
    }
    assert_eq!(held.held(), 0);
}

#[tokio::test]
async fn without_it_uploads_that_wait_starve_the_one_that_runs() {
    let _t = support::trace_init();
    let server = Uploads::serve(1, None).await;
    let client = sockets::client_h2();
    let uploads: Vec<_> = (0..3).map(|_| server.upload(&client, MIB)).collect();
    server.until(2, 1).await;
    sleep(MOMENT).await;
    server.gate.add_permits(3);
    sleep(MOMENT).await;
    assert_eq!(server.handle.stats().succeeded, 0, "the control of the test above");
    uploads.into_iter().for_each(|upload| upload.abort());
}

/// Serves with as large a connection window as all streams together may fill.
#[tokio::test]
async fn with_windows_by_the_rule_uploads_do_not_starve_each_other() {
    let _t = support::trace_init();
    const STREAMS: u32 = 64;
    const STREAM: u32 = 64 << 10;
    let leveler = builder(1000, 1).max_wait(PATIENCE).build().expect("valid");
    let handle = leveler.handle();
    let router = Router::new()
        .route("/", post(async |body: Bytes| body.len().to_string()))
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(leveler));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        use hyper_util::{rt, server::conn::auto, service::TowerToHyperService};
        let (socket, _) = listener.accept().await.expect("a connection");
        // Windows are opened by small frames, which the kernel would hold back for 40 ms each.
        socket.set_nodelay(true).expect("supported");
        let mut server = auto::Builder::new(rt::TokioExecutor::new());
        server
            .http2()
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM)
            .initial_connection_window_size(STREAMS * STREAM);
        let service = TowerToHyperService::new(router);
        drop(server.serve_connection(rt::TokioIo::new(socket), service).await);
    });
    let client = sockets::client_h2();
    let uploads =
        (0..32).map(|_| sockets::post(client.clone(), base.clone(), Body::from(vec![0; MIB])));
    let answers = timeout(PATIENCE, join_all(uploads)).await.expect("not starved");
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    assert_eq!(handle.stats().succeeded, 32);
}

struct Short;

impl Greeter for Short {
    async fn say_hello(&self, request: HelloRequest) -> Result<HelloReply, Status> {
        sleep(Duration::from_millis(2)).await;
        Ok(HelloReply { text: request.name.len().to_string() })
    }
}

async fn greeted(ahead: Option<ReadAheadLayer>) -> (Handle, Channel) {
    let leveler = LoadLevelLayer::new(1000, 4);
    let handle = leveler.handle();
    let stack = ServiceBuilder::new()
        .layer(grpc::RejectionLayer::new())
        .layer(leveler)
        .named_layer(GreeterServer::new(Short));
    let channel = match ahead {
        Some(ahead) => sockets::serve_grpc(Server::builder().layer(ahead).add_service(stack)).await,
        None => sockets::serve_grpc(Server::builder().add_service(stack)).await,
    };
    (handle, channel)
}

fn messages(channel: &Channel) -> Vec<JoinHandle<Result<HelloReply, Status>>> {
    let name = "x".repeat(MIB / 4);
    let call = |_| {
        let (mut client, name) = (GreeterClient::new(channel.clone()), name.clone());
        tokio::spawn(async move { client.say_hello(hello(&name)).await })
    };
    (0..64).map(call).collect()
}

#[tokio::test]
async fn many_messages_on_one_grpc_connection_are_all_answered() {
    let _t = support::trace_init();
    let ahead = ReadAheadLayer::new(MIB, 64 * MIB);
    let held = ahead.handle();
    let (handle, channel) = greeted(Some(ahead)).await;
    for call in messages(&channel) {
        let reply = timeout(PATIENCE, call).await.expect("not starved").expect("no panic");
        assert_eq!(reply.expect("answered").text, (MIB / 4).to_string());
    }
    assert_eq!((handle.stats().succeeded, held.held()), (64, 0));
}

#[tokio::test]
async fn without_it_many_messages_on_one_grpc_connection_are_not() {
    let _t = support::trace_init();
    let (handle, channel) = greeted(None).await;
    let calls = messages(&channel);
    sleep(2 * MOMENT).await;
    assert!(handle.stats().succeeded < 64, "the control of the test above");
    calls.into_iter().for_each(|call| call.abort());
}

/// A client that waits behind another, has sent so much of a body of 30 kB, and leaves.
async fn leaves(ahead: Option<ReadAheadLayer>, sent: usize, reset: bool) -> Uploads {
    let server = Uploads::serve(1, ahead).await;
    let running = server.upload(&sockets::client(), 1);
    server.until(0, 1).await;
    let mut leaver = server.connect().await;
    leaver.write_all(head(30_000, "").as_bytes()).await.expect("it reads");
    leaver.write_all(&vec![0; sent]).await.expect("it reads, or the kernel does");
    server.until(1, 1).await;
    // A client that leaves at once is a different matter: nothing of its body is there.
    sleep(Duration::from_millis(50)).await;
    if reset {
        leaver.set_zero_linger().expect("supported");
    }
    drop(leaver);
    drop(running);
    server
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_while_its_request_waits() {
    let _t = support::trace_init();
    for (sent, reset) in [(30_000, false), (15_000, false), (0, false), (30_000, true), (9, true)] {
        let ahead = ReadAheadLayer::new(64 << 10, MIB);
        let held = ahead.handle();
        let server = leaves(Some(ahead), sent, reset).await;
        server.until(0, 1).await;
        assert_eq!(server.handle.stats().cancelled, 1, "{sent} sent, reset: {reset}");
        // Those of the request that runs are counted as 256.
        support::eventually("its bytes are released", || held.held() == 256).await;
        server.gate.add_permits(2);
        server.until(0, 0).await;
        assert_eq!(server.called.load(SeqCst), 1, "{sent} sent, reset: {reset}");
    }
}

#[tokio::test]
async fn without_it_a_client_that_leaves_is_handled_in_its_turn() {
    let _t = support::trace_init();
    for sent in [30_000, 15_000] {
        let server = leaves(None, sent, false).await;
        sleep(MOMENT).await;
        assert_eq!(server.handle.stats().queued, 1, "the control of the test above");
        server.gate.add_permits(2);
        server.until(0, 0).await;
        assert_eq!(server.called.load(SeqCst), 2);
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_continue_is_told_at_its_turn() {
    let _t = support::trace_init();
    let server = Uploads::serve(1, Some(ReadAheadLayer::new(MIB, MIB))).await;
    let running = server.upload(&sockets::client(), 1);
    server.until(0, 1).await;
    let mut waiting = server.connect().await;
    waiting.write_all(head(4, "expect: 100-continue\r\n").as_bytes()).await.expect("it reads");
    server.until(1, 1).await;
    let mut bytes = [0; 1000];
    let early = timeout(MOMENT / 5, waiting.read(&mut bytes)).await;
    early.expect_err("nobody has asked for the body");
    server.gate.add_permits(2);
    let read = waiting.read(&mut bytes).await.expect("a line");
    assert_eq!(&bytes[..read], b"HTTP/1.1 100 Continue\r\n\r\n");
    waiting.write_all(b"body").await.expect("it reads");
    let read = waiting.read(&mut bytes).await.expect("an answer");
    assert!(bytes[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
    running.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn bodies_of_a_byte_a_second_hold_no_slots() {
    let _t = support::trace_init();
    const LIMIT: usize = 8;
    let ahead = ReadAheadLayer::new(64 << 10, MIB).body_first(Duration::from_secs(1));
    let server = Uploads::serve_wires(LIMIT, ahead);
    server.gate.add_permits(1000);
    let trickle = || {
        Body::from_stream(stream::repeat(()).then(async |()| {
            sleep(Duration::from_millis(100)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        }))
    };
    for client in [wires::client(), wires::client_h2()] {
        let trickles = (0..LIMIT)
            .map(|_| sockets::post(client.clone(), format!("{}/", server.base), trickle()));
        let trickles: Vec<_> = trickles.map(tokio::spawn).collect();
        sleep(Duration::from_millis(200)).await;
        let honest = (0..LIMIT).map(|_| server.upload(&client, 10_000));
        for answer in timeout(PATIENCE, join_all(honest)).await.expect("not held up") {
            assert_eq!(answer.expect("no panic").0, StatusCode::OK);
        }
        assert_eq!(server.handle.stats().in_flight, 0, "no slot is held");
        for answer in timeout(PATIENCE, join_all(trickles)).await.expect("timed out") {
            assert_eq!(answer.expect("no panic").status(), StatusCode::REQUEST_TIMEOUT);
        }
    }
}

#[tokio::test]
async fn bodies_may_be_turned_back_for_what_names_its_body_type() {
    let _t = support::trace_init();
    let ahead = ReadAheadLayer::new(MIB, MIB);
    let leveler = builder(8, 1)
        .classify_request(|_: &Request<Body>| tower_load_leveling::Class::new())
        .build()
        .expect("valid");
    let stack = ServiceBuilder::new()
        .layer(ahead)
        .map_request(|request: Request<ReadAheadBody<Body>>| request.map(Body::new))
        .layer(RejectionLayer::new())
        .layer(leveler)
        .layer(option_layer(None::<tower::layer::util::Identity>));
    let router = Router::new().route("/", post(async |body: Bytes| body)).layer(stack);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router).into_future());
    let answer = sockets::post(sockets::client(), uri.clone(), "body".into()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // An error of the body is the handler's to answer.
    let large = sockets::post(sockets::client(), uri, vec![0; 3 * MIB].into()).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
