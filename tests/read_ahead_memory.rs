//! What a thousand waiting uploads cost, with their bodies read ahead. A binary of its own, since
//! it looks at the memory of the whole process.
#![cfg(all(feature = "grpc", target_os = "linux"))]

mod support;

use std::{fs, time::Duration};

use axum::{Router, body::Body, extract::Request, routing::post};
use bytes::Bytes;
use futures::{StreamExt, stream};
use support::sockets;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceBuilder;
use tower_load_leveling::{
    LoadLevelLayer,
    http::{ReadAheadLayer, RejectionLayer},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const UPLOADS: usize = 1000;
const UPLOAD: usize = 2 * MIB;
/// What a thousand requests may take beside the total.
const BESIDE: usize = 64 * MIB;

static CHUNK: [u8; 16 * KIB] = [0; 16 * KIB];

/// The memory that the process has touched, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("kB") * KIB
}

/// Memory grows until the kernel has all that fits: waits until it has stopped.
async fn at_rest(handle: &tower_load_leveling::http::ReadAheadHandle) {
    let (mut last, began) = (handle.held(), Instant::now());
    loop {
        sleep(Duration::from_millis(300)).await;
        let held = handle.held();
        if held == last && held >= handle.total() {
            return;
        }
        last = held;
        assert!(began.elapsed() < Duration::from_secs(60), "{held} bytes held");
    }
}

#[test]
fn a_thousand_waiting_uploads_hold_little_more_than_the_total() {
    let _t = support::trace_init();
    let before = resident();
    for (per_request, total) in [(64 * KIB, 32 * MIB), (MIB, 64 * MIB)] {
        for http2 in [false, true] {
            // Ends with all connections.
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let held = runtime.block_on(uploads(per_request, total, http2));
            let grown = resident().saturating_sub(before);
            println!(
                "http2: {http2}, {per_request} bytes a request: {} MiB held, {} MiB more in use",
                held / MIB,
                grown / MIB,
            );
            assert!(held < total + 2 * MIB, "{held}");
            assert!(grown < BESIDE + total, "{} MiB", grown / MIB);
        }
    }
}

/// Returns how much is held when nothing moves any more.
async fn uploads(per_request: usize, total: usize, http2: bool) -> usize {
    let ahead = ReadAheadLayer::new(per_request, total);
    let (held, leveler) = (ahead.handle(), LoadLevelLayer::new(UPLOADS, 1));
    let handle = leveler.handle();
    let never = post(async |request: Request| {
        std::future::pending::<()>().await;
        drop(request);
    });
    let router = Router::new()
        .route("/", never)
        .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(leveler));
    let base = sockets::serve(router.layer(ahead)).await;
    let mut clients = if http2 { streams(&base) } else { connections(&base).await };
    support::eventually("all wait", || handle.stats().queued == UPLOADS - 1).await;
    at_rest(&held).await;
    clients.detach_all();
    held.held()
}

/// Clients that take no memory for what they send.
async fn connections(base: &str) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for nth in 0..UPLOADS {
        let mut socket = TcpStream::connect(&base["http://".len()..]).await.expect("it listens");
        if nth % 50 == 0 {
            // The server has to accept them, or the kernel refuses more.
            sleep(Duration::from_millis(5)).await;
        }
        clients.spawn(async move {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.expect("it reads");
            for _ in 0..UPLOAD / CHUNK.len() {
                socket.write_all(&CHUNK).await.expect("it reads, or waits");
            }
            std::future::pending::<()>().await;
        });
    }
    clients
}

fn streams(base: &str) -> JoinSet<()> {
    let clients: Vec<_> = (0..10).map(|_| sockets::client_h2()).collect();
    (0..UPLOADS)
        .map(|nth| {
            let chunks = stream::iter(0..UPLOAD / CHUNK.len()).then(async |_| {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(Bytes::from_static(&CHUNK))
            });
            let (client, uri) = (clients[nth % 10].clone(), format!("{base}/"));
            async move { drop(sockets::post(client, uri, Body::from_stream(chunks)).await) }
        })
        .collect()
}
