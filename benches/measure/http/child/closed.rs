//! Load that waits for answers: as much as the server can do.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, runtime::Builder, task::JoinSet, time::Instant};

use super::connection::Connection;
use crate::CONNECTIONS;

/// Before anything is counted, this part of the time goes by.
const WARM_UP: u32 = 5;

/// How many there are in so much time.
pub fn answers(address: SocketAddr, time: Duration) -> u64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            connections.push(Connection::open(stream).await);
        }
        let start = Instant::now() + time / WARM_UP;
        let asking: JoinSet<u64> = connections
            .into_iter()
            .map(|connection| ask(connection, start, start + time))
            .collect();
        asking.join_all().await.into_iter().sum()
    })
}

async fn ask(mut connection: Connection, start: Instant, end: Instant) -> u64 {
    let mut answers = 0;
    loop {
        connection.ask().await;
        let now = Instant::now();
        if now >= end {
            return answers;
        }
        answers += u64::from(now >= start);
    }
}
