//! The load: arrivals that do not wait for answers, as on the internet.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::{
    Result,
    contenders::{REASON, TIMEOUT},
    plan::{BUDGET, PATIENCE, Plan},
};

const CONNECTIONS: usize = 2;
/// The bound on the orders of a run, at any rate: a run has to end, and to fit into memory.
const MAX_ORDERS: usize = 200_000;

type Sender = http2::SendRequest<Empty<Bytes>>;

pub(crate) struct Client {
    address: SocketAddr,
    connections: Vec<Sender>,
}

/// The end of an order for the client. Times are from the start of the run.
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) sent: Duration,
    pub(crate) took: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused(String),
    /// The server reported an error, or the connection broke.
    Failed(String),
    TimedOut,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpStream::connect(address).await?;
            // Without `nodelay` a small request waits for the acknowledgement of the request
            // before.
            socket.set_nodelay(true)?;
            let mut builder = http2::Builder::new(TokioExecutor::new());
            // Many requests may give up at once. The connection has to survive the resets.
            builder.max_concurrent_reset_streams(100_000);
            let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
            tokio::spawn(connection);
            connections.push(sender);
        }
        Ok(Self { address, connections })
    }

    /// Sends orders at the rates of the plan, from `start` on, without waiting for answers.
    pub(crate) async fn send_all(&self, start: Instant, rate: f64, plan: &Plan) -> Vec<Answer> {
        let mut orders = JoinSet::new();
        for (number, sent) in arrivals(rate, plan).take(MAX_ORDERS).enumerate() {
            // A late client sends without a pause, to keep the rate on average.
            if start.elapsed() < sent {
                tokio::time::sleep_until(start + sent).await;
            }
            let sender = self.connections[number % self.connections.len()].clone();
            let (address, number) = (self.address, number as u64);
            orders.spawn(async move {
                let sent = Instant::now();
                let answer = tokio::time::timeout(PATIENCE, send(sender, address, number)).await;
                Answer {
                    number,
                    sent: sent - start,
                    took: sent.elapsed(),
                    outcome: answer.unwrap_or(Outcome::TimedOut),
                }
            });
        }
        orders.join_all().await
    }
}

/// The times of sending, from the start: at random, as by independent clients, and the same in each
/// run.
fn arrivals(rate: f64, plan: &Plan) -> impl Iterator<Item = Duration> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut begin = Duration::ZERO;
    plan.phases.into_iter().flat_map(move |(times, length)| {
        let (from, until) = (begin, begin + length);
        begin = until;
        let mean = 1.0 / (rate * times);
        let mut at = from;
        std::iter::from_fn(move || {
            at += Duration::from_secs_f64(mean * exponential(&mut random));
            (at < until).then_some(at)
        })
    })
}

/// Exponentially distributed, with a mean of 1 (xorshift).
fn exponential(random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    -(1.0 - (*random >> 11) as f64 / (1_u64 << 53) as f64).ln()
}

async fn send(mut sender: Sender, address: SocketAddr, number: u64) -> Outcome {
    let request = Request::post(format!("http://{address}/orders/{number}"))
        .header(TIMEOUT, BUDGET.as_millis().to_string())
        .body(Empty::new());
    let Ok(request) = request else { return Outcome::Failed("not a request".into()) };
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let reason = response.headers().get(REASON).and_then(|reason| reason.to_str().ok());
    match response.status() {
        StatusCode::CREATED => Outcome::Accepted,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused(reason.unwrap_or("shed").to_owned()),
        status => Outcome::Failed(status.to_string()),
    }
}
