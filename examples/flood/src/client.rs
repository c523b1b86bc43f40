//! The load: arrivals that do not wait for answers, as on the internet.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::{PATIENCE, Plan, Result, server::REASON};

const CONNECTIONS: usize = 8;
/// A run sends no more than so many orders, whatever the rate: it is to end, and fit into memory.
const MAX_ORDERS: usize = 200_000;

type Sender = http2::SendRequest<Empty<Bytes>>;

pub(crate) struct Client {
    address: SocketAddr,
    connections: Vec<Sender>,
}

/// What became of one order, for its client.
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
    /// The server said that it failed, or the connection broke.
    Failed(String),
    TimedOut,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let socket = TcpStream::connect(address).await?;
            // Or small requests wait for the acknowledgement of those before them.
            socket.set_nodelay(true)?;
            let mut builder = http2::Builder::new(TokioExecutor::new());
            // Room to give up on many requests at once without the connection being closed for it.
            builder.max_concurrent_reset_streams(100_000);
            let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
            tokio::spawn(connection);
            connections.push(sender);
        }
        Ok(Self { address, connections })
    }

    /// Sends one order after the other, as many at once as the layer will let run; returns how many
    /// were accepted.
    pub(crate) async fn closed_loop(&self, time: Duration) -> Result<usize> {
        let start = Instant::now();
        let mut loops = JoinSet::new();
        for writer in 0..crate::WRITERS {
            let (sender, address) = (self.sender(writer), self.address);
            loops.spawn(async move {
                let mut accepted = 0;
                while start.elapsed() < time {
                    let outcome = send(sender.clone(), address, accepted as u64).await;
                    accepted += usize::from(outcome == Outcome::Accepted);
                }
                accepted
            });
        }
        Ok(loops.join_all().await.into_iter().sum())
    }

    /// Sends orders at the rates of the plan, evenly spaced, whatever becomes of them.
    pub(crate) async fn open_loop(&self, rate: f64, plan: &Plan) -> Vec<Answer> {
        let start = Instant::now();
        let mut orders = JoinSet::new();
        for (number, sent) in arrivals(rate, plan).take(MAX_ORDERS).enumerate() {
            // Behind time it does not wait, so the rate is kept on the whole.
            if start.elapsed() < sent {
                tokio::time::sleep_until(start + sent).await;
            }
            let (sender, address, number) = (self.sender(number), self.address, number as u64);
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

    fn sender(&self, nth: usize) -> Sender {
        self.connections[nth % self.connections.len()].clone()
    }
}

/// When each order is sent, from the start.
fn arrivals(rate: f64, plan: &Plan) -> impl Iterator<Item = Duration> {
    let mut begin = Duration::ZERO;
    plan.phases.into_iter().flat_map(move |(times, length)| {
        let phase = begin;
        begin += length;
        let count = (rate * times * length.as_secs_f64()) as u32;
        (0..count).map(move |nth| phase + length * nth / count.max(1))
    })
}

async fn send(mut sender: Sender, address: SocketAddr, number: u64) -> Outcome {
    let request = Request::post(format!("http://{address}/orders/{number}")).body(Empty::new());
    let Ok(request) = request else { return Outcome::Failed("not a request".into()) };
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let reason = response.headers().get(REASON).and_then(|reason| reason.to_str().ok());
    match (response.status(), reason) {
        (StatusCode::CREATED, _) => Outcome::Accepted,
        (StatusCode::SERVICE_UNAVAILABLE, Some(reason)) => Outcome::Refused(reason.to_owned()),
        (status, _) => Outcome::Failed(status.to_string()),
    }
}
