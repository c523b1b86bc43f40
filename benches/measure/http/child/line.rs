//! Which connections are free, and who waits for one.

use std::{
    collections::VecDeque,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::connection::REQUEST;
use crate::CONNECTIONS;

#[derive(Debug)]
pub struct Line {
    connections: Vec<TcpStream>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The one that has been so for longest is next, so that all are used.
    free: VecDeque<usize>,
    /// When their requests were due.
    waiting: VecDeque<Instant>,
    /// When the request was due that a connection is busy with.
    due: Vec<Instant>,
    /// In nanoseconds.
    latencies: Vec<u64>,
}

impl Line {
    pub fn connect(address: SocketAddr) -> Self {
        let connect = |_| TcpStream::connect(address).expect("the server listens");
        let state = State {
            free: (0..CONNECTIONS).collect(),
            waiting: VecDeque::new(),
            due: vec![Instant::now(); CONNECTIONS],
            latencies: Vec::new(),
        };
        Self { connections: (0..CONNECTIONS).map(connect).collect(), state: Mutex::new(state) }
    }

    /// To read from.
    pub fn streams(&self) -> impl Iterator<Item = tokio::net::TcpStream> {
        self.connections.iter().map(|connection| {
            connection.set_nonblocking(true).expect("a TCP socket");
            let copy = connection.try_clone().expect("a TCP socket");
            tokio::net::TcpStream::from_std(copy).expect("within a runtime")
        })
    }

    /// Sends a request, or lets it wait.
    pub fn arrive(&self, due: Instant) {
        let mut state = self.lock();
        match state.free.pop_front() {
            Some(place) => {
                state.due[place] = due;
                drop(state);
                self.send(place);
            }
            None => state.waiting.push_back(due),
        }
    }

    /// Notes a latency, and sends what waits.
    pub fn answered(&self, place: usize, now: Instant) {
        let mut state = self.lock();
        let latency = now - state.due[place];
        state.latencies.push(latency.as_nanos() as u64);
        match state.waiting.pop_front() {
            Some(due) => {
                state.due[place] = due;
                drop(state);
                self.send(place);
            }
            None => state.free.push_back(place),
        }
    }

    pub fn count(&self) -> usize {
        self.lock().latencies.len()
    }

    pub fn latencies(&self) -> Vec<u64> {
        self.lock().latencies.clone()
    }

    fn send(&self, place: usize) {
        let mut connection = &self.connections[place];
        connection.write_all(REQUEST).expect("room for a request");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
