//! Load that does not wait for answers: requests come when they are due, and their latency counts
//! from then. So a server that is slow for a moment is charged with all whom that keeps waiting,
//! not just with one for each connection.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, task::JoinSet, time};

use super::{connection::Connection, line::Line};
use sim::random::Random;

/// After this, something must be broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// When requests are due, from the start: independent of each other, as from many clients. Evenly
/// spaced ones would never meet, and what comes of meeting is most of a high percentile. The same
/// seed gives the same to everybody.
pub fn arrivals(rate: f64, count: usize, seed: u64) -> Vec<Duration> {
    let mut random = Random::stream(seed, 0);
    let mean = Duration::from_secs_f64(1.0 / rate);
    let mut now = Duration::ZERO;
    let next = || {
        now += random.exponential(mean);
        now
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// In nanoseconds, in the order of the answers.
///
/// Timers of tokio are good to a millisecond only, so that another thread waits for the times. It
/// sends, too, and does nothing else.
pub fn latencies(address: SocketAddr, arrivals: &[Duration]) -> Vec<u64> {
    // Linux may be 50 µs late unless told otherwise. Elsewhere there is no such file.
    let _ = fs::write("/proc/self/timerslack_ns", "1");
    let line = Arc::new(Line::connect(address));
    let (ready, is_ready) = mpsc::channel();
    let receiver = thread::spawn({
        let (line, count) = (line.clone(), arrivals.len());
        move || receive(&line, count, &ready)
    });
    is_ready.recv().expect("all connections work");
    let start = Instant::now();
    for arrival in arrivals {
        let due = start + *arrival;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        line.arrive(due);
    }
    receiver.join().expect("no panic")
}

fn receive(line: &Arc<Line>, count: usize, ready: &mpsc::Sender<()>) -> Vec<u64> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connections = Vec::new();
        for stream in line.streams() {
            connections.push(Connection::open(stream).await);
        }
        let mut receiving = JoinSet::new();
        for (place, mut connection) in connections.into_iter().enumerate() {
            let line = line.clone();
            receiving.spawn(async move {
                loop {
                    connection.answer().await;
                    line.answered(place, Instant::now());
                }
            });
        }
        ready.send(()).expect("the other thread waits");
        let all = async {
            while line.count() < count {
                tokio::select! {
                    () = time::sleep(Duration::from_millis(10)) => {}
                    Some(failed) = receiving.join_next() => failed.expect("no panic"),
                }
            }
        };
        time::timeout(PATIENCE, all).await.expect("all are answered");
        line.latencies()
    })
}
