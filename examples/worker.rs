//! For those who have a queue already: consumers that take no more than can be started.
//!
//! Several consumers read one queue, each in a task of its own. Before them is one leveler, so they
//! share one limit. `Overflow::Wait` makes a consumer wait until its message can be started, before
//! it takes the next one: all others stay in the queue, where other processes can have them. A
//! message is acknowledged when its call has ended, comes back later after an error, and goes to
//! the dead letters after its last attempt. On SIGTERM (here: sent by the example itself) the
//! consumers take no more, and what runs is finished.
//!
//! The queue here is a toy in memory. With a real one, `take`, `ack`, `retry` and `bury` are calls
//! of its client. For NATS JetStream there is `crates/jetstream`, which does all this.
//!
//! ```sh
//! cargo run --example worker
//! ```

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, sync::watch, task::JoinSet, time::sleep};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevelLayer, Overflow, error::Rejected};

const MESSAGES: u32 = 500;
const CONSUMERS: usize = 3;
const LIMIT: usize = 8;
const ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
struct Message {
    number: u32,
    attempt: u32,
}

/// The queue. What was taken and not settled is `unacked`.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Message>,
    unacked: usize,
    most_unacked: usize,
    acked: u32,
    retried: u32,
    buried: Vec<u32>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, message: Message) {
        self.state().waiting.push_back(message);
        self.more.notify_one();
    }

    async fn take(&self) -> Message {
        loop {
            {
                let mut state = self.state();
                if let Some(message) = state.waiting.pop_front() {
                    state.unacked += 1;
                    state.most_unacked = state.most_unacked.max(state.unacked);
                    return message;
                }
            }
            self.more.notified().await;
        }
    }

    fn ack(&self) {
        let mut state = self.state();
        state.unacked -= 1;
        state.acked += 1;
    }

    /// Gives the message back. It comes again after a while.
    fn retry(self: &Arc<Self>, message: Message, after: Duration) {
        let mut state = self.state();
        state.unacked -= 1;
        state.retried += 1;
        drop(state);
        let queue = Arc::clone(self);
        tokio::spawn(async move {
            sleep(after).await;
            // It is due, so it comes before those that have waited less.
            queue.state().waiting.push_front(message);
            queue.more.notify_one();
        });
    }

    /// Gives back what was not started.
    fn give_back(&self, message: Message) {
        let mut state = self.state();
        state.unacked -= 1;
        state.waiting.push_front(message);
    }

    fn bury(&self, message: Message) {
        let mut state = self.state();
        state.unacked -= 1;
        state.buried.push(message.number);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().init();

    let queue = Arc::new(Queue::default());
    (0..MESSAGES).for_each(|number| queue.put(Message { number, attempt: 1 }));

    let leveler = LoadLevelLayer::builder()
        .name("worker")
        // Each consumer waits with one message in hand. None wait in the leveler.
        .capacity(0)
        .concurrency(LIMIT)
        // Consumers wait. With the default they would take everything, and most would be refused.
        .overflow(Overflow::Wait)
        .build()?;
    let handle = leveler.handle();
    let running = Arc::new(Running::default());
    let service = leveler.layer(service_fn({
        let running = Arc::clone(&running);
        move |message| work(Arc::clone(&running), message)
    }));

    let (stop, stopped) = watch::channel(false);
    let mut consumers = JoinSet::new();
    for _ in 0..CONSUMERS {
        consumers.spawn(consume(Arc::clone(&queue), service.clone(), stopped.clone()));
    }
    drop(service);

    println!("{CONSUMERS} consumers, one limit of {LIMIT}, {MESSAGES} messages");
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "waiting", "unacked", "running", "acked", "retried", "buried"
    );
    let watching = tokio::spawn({
        let (queue, running) = (Arc::clone(&queue), Arc::clone(&running));
        async move {
            loop {
                print(&queue, &running);
                sleep(Duration::from_millis(200)).await;
            }
        }
    });

    // In life, the orchestrator sends it. Here, after most of the work.
    let told = tokio::spawn(terminated());
    while queue.state().acked < MESSAGES * 4 / 5 {
        sleep(Duration::from_millis(10)).await;
    }
    terminate()?;
    told.await??;
    println!("SIGTERM: taking no more");
    stop.send_replace(true);
    while let Some(ended) = consumers.join_next().await {
        ended?;
    }
    let report = handle.drain(Duration::from_secs(10)).await;
    ensure(report.in_flight == 0, "all that ran should be finished")?;
    watching.abort();
    print(&queue, &running);

    let state = queue.state();
    println!("{}", handle.stats());
    println!(
        "most running at once: {}, most unacked: {}",
        running.most.load(SeqCst),
        state.most_unacked
    );
    println!("dead letters: {:?}", state.buried);
    println!(
        "left in the queue, for the next process: {} and what waits to come again",
        state.waiting.len()
    );
    ensure(running.most.load(SeqCst) <= LIMIT, "more calls than the limit ran")?;
    // What has ended may not be acknowledged yet when the next call starts.
    let most = 2 * LIMIT + CONSUMERS;
    ensure(state.most_unacked <= most, "consumers took what could not be started")?;
    ensure(state.unacked == 0, "a message was neither acknowledged nor given back")?;
    ensure(!state.buried.is_empty(), "what never succeeds should be buried")?;
    ensure(state.buried.iter().all(|number| number % 50 == 7), "a good message was buried")
}

/// Takes messages, one more than can be started.
async fn consume<S>(queue: Arc<Queue>, mut service: S, mut stop: watch::Receiver<bool>)
where
    S: Service<Message, Response = (), Error = BoxError>,
    S::Future: Send + 'static,
{
    let mut calls = JoinSet::new();
    loop {
        let message = tokio::select! {
            message = queue.take() => message,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // The message first, then a place: an idle consumer keeps no place from the others. While
        // this waits, nothing more is taken.
        let ready = tokio::select! {
            ready = service.ready() => ready.is_ok(),
            _ = stop.wait_for(|stop| *stop) => false,
        };
        // Told to stop, or the inner service has died.
        if !ready {
            queue.give_back(message);
            break;
        }
        let (call, queue) = (service.call(message), Arc::clone(&queue));
        calls.spawn(async move {
            match call.await {
                Ok(()) => queue.ack(),
                // Overload is no failure: the attempt does not count.
                Err(error) if error.is::<Rejected>() => {
                    queue.retry(message, Duration::from_millis(100));
                }
                Err(_) if message.attempt == ATTEMPTS => queue.bury(message),
                Err(_) => {
                    let after = Duration::from_millis(20 << message.attempt);
                    queue.retry(Message { attempt: message.attempt + 1, ..message }, after);
                }
            }
        });
        while calls.try_join_next().is_some() {}
    }
    // The place goes to another consumer.
    drop(service);
    while calls.join_next().await.is_some() {}
}

/// How many calls run.
#[derive(Debug, Default)]
struct Running {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Some work. One message in fifty never succeeds.
async fn work(running: Arc<Running>, message: Message) -> Result<(), BoxError> {
    let now = running.now.fetch_add(1, SeqCst) + 1;
    running.most.fetch_max(now, SeqCst);
    sleep(Duration::from_millis(20)).await;
    running.now.fetch_sub(1, SeqCst);
    if message.number % 50 == 7 { Err("poison".into()) } else { Ok(()) }
}

fn print(queue: &Queue, running: &Running) {
    let State { waiting, unacked, acked, retried, buried, .. } = &*queue.state();
    let (waiting, running, buried) = (waiting.len(), running.now.load(SeqCst), buried.len());
    println!("{waiting:>8} {unacked:>8} {running:>8} {acked:>8} {retried:>8} {buried:>8}");
}

#[cfg(unix)]
async fn terminated() -> Result<(), std::io::Error> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    signal.recv().await;
    Ok(())
}

#[cfg(unix)]
fn terminate() -> Result<(), BoxError> {
    let process = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-TERM", &process]).status()?;
    ensure(sent.success(), "no SIGTERM")
}

#[cfg(not(unix))]
async fn terminated() -> Result<(), std::io::Error> {
    Ok(())
}

#[cfg(not(unix))]
fn terminate() -> Result<(), BoxError> {
    Ok(())
}

fn ensure(expected: bool, what: &str) -> Result<(), BoxError> {
    if expected { Ok(()) } else { Err(what.into()) }
}
