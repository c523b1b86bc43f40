//! What the HTTP stack costs an axum server: requests per second, loaded by `wrk` from a process of its own.
//!
//! ```sh
//! cargo bench --features http --bench http             # some two minutes; needs wrk, a Debian package
//! cargo bench --features http --bench http -- --test   # a smoke test, without wrk
//! ```
//!
//! A small JSON answer, 64 connections. The servers are loaded in turns, each round beginning with another, so
//! that what else the machine does befalls all alike; printed are medians of what a server did in a round as a
//! share of what the bare one did. Single rounds differ by a tenth and more.

use std::{future::IntoFuture, process::Command, time::Duration};

use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{BoxError, ServiceBuilder, buffer::BufferLayer, limit::ConcurrencyLimitLayer};
use tower_load_leveling::{
    Execution, LoadLevelLayer,
    http::{ByStatus, Hold, RejectionLayer},
};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 15;

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut servers = Vec::new();
    // `Buffer` can't be made outside of a runtime.
    let entered = runtime.enter();
    let routers = routers();
    drop(entered);
    for (name, router) in routers {
        servers.push((name, runtime.block_on(serve(router)), Vec::new()));
    }
    if test {
        for (name, address, _) in &servers {
            let answer = runtime.block_on(ask(address));
            assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
            println!("{name}: answers");
        }
        return;
    }
    for round in 0..ROUNDS {
        // Each round begins with another: what comes after what makes a difference of some percent.
        let count = servers.len();
        for nth in 0..count {
            let (_, address, rates) = &mut servers[(nth + round) % count];
            match load(address) {
                Some(rate) => rates.push(rate),
                None => return println!("wrk is needed: apt-get install wrk"),
            }
        }
    }
    let of = |name: &str| {
        let server = servers.iter().find(|(other, ..)| *other == name);
        server.map_or(&[] as &[f64], |(_, _, rates)| rates)
    };
    println!("requests a second, {CONNECTIONS} connections, {ROUNDS} rounds");
    println!("{:<44}{:>10}{:>10}", "", "median", "÷ bare");
    for (name, _, rates) in &servers {
        let (rate, share) = (median(rates.clone()), median(ratios(rates, of(BARE))));
        println!("{name:<44}{rate:>10.0}{share:>10.3}");
    }
    let ratio = median(ratios(of(STACK), of(HANDLE_ERROR)));
    let verdict = if ratio >= 0.97 { "met" } else { "missed" };
    println!("http stack ÷ leveler and HandleErrorLayer {ratio:.3}  at least 0.97 {verdict}");
}

fn ratios(rates: &[f64], others: &[f64]) -> Vec<f64> {
    rates.iter().zip(others).map(|(rate, other)| rate / other).collect()
}

const BARE: &str = "bare";
const HANDLE_ERROR: &str = "leveler and HandleErrorLayer";
const STACK: &str = "leveler and RejectionLayer";

fn routers() -> Vec<(&'static str, Router)> {
    let router = || Router::new().route("/", get(async || axum::Json([1, 2, 3])));
    let builder = || LoadLevelLayer::builder().capacity(1024).concurrency(CONNECTIONS);
    let build = |builder: tower_load_leveling::Builder| builder.build().expect("valid settings");
    let refuse = async |_: BoxError| StatusCode::SERVICE_UNAVAILABLE;
    let handled =
        ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).layer(build(builder()));
    let buffered = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(BufferLayer::new(1024))
        .layer(ConcurrencyLimitLayer::new(CONNECTIONS));
    let stack = |layer| ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer);
    let held = builder()
        .response_classifier(ByStatus::new())
        .hold_until(Hold::BodyEnd)
        .build()
        .expect("valid settings");
    vec![
        (BARE, router()),
        (HANDLE_ERROR, router().layer(handled)),
        (STACK, router().layer(stack(build(builder())))),
        ("the same, polled by the caller", {
            router().layer(stack(build(builder().execution(Execution::Caller))))
        }),
        ("the same, slots held to the end of bodies", {
            router().layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(held))
        }),
        // Around the whole router, where one limit holds over all connections.
        ("Buffer and ConcurrencyLimit", {
            Router::new().fallback_service(buffered.service(router()))
        }),
    ]
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

async fn ask(address: &str) -> String {
    let ask = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), ask).await;
    answer.expect("in time").expect("an answer")
}

/// Requests per second, as `wrk` counts them. `None` without it.
fn load(address: &str) -> Option<f64> {
    let connections = format!("-c{CONNECTIONS}");
    let uri = format!("http://{address}/");
    let output = Command::new("wrk").args(["-t1", &connections, "-d1s", &uri]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
