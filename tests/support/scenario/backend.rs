//! A backend with so many servers, and a queue of its own for what a limit set too high lets
//! through.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tower::{BoxError, Service};
use tower_load_leveling::Class;

#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    pub work: Duration,
    pub class: Class,
}

/// What the world is told of, and has not yet taken note of.
#[derive(Debug, Default)]
pub struct News {
    /// Dispatched by the layer, in order.
    pub called: Vec<u64>,
    /// Begun by a server, and when it will be done.
    pub begun: Vec<(Instant, u64)>,
    /// Work stopped half way: the time that was spent on it.
    pub stopped: Vec<(u64, Duration)>,
}

#[derive(Clone)]
pub struct Backend(Arc<Mutex<State>>);

struct State {
    servers: usize,
    busy: usize,
    waiting: VecDeque<(u64, Duration)>,
    running: HashMap<u64, (Instant, oneshot::Sender<()>)>,
    /// Of those that wait.
    replies: HashMap<u64, oneshot::Sender<()>>,
    news: News,
}

impl Backend {
    pub fn new(servers: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            servers,
            busy: 0,
            waiting: VecDeque::new(),
            running: HashMap::new(),
            replies: HashMap::new(),
            news: News::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under this lock")
    }

    pub fn set_servers(&self, servers: usize) {
        let mut state = self.state();
        state.servers = servers;
        state.begin();
    }

    pub fn news(&self) -> News {
        std::mem::take(&mut self.state().news)
    }

    /// Ends the work on a request, if it has not been stopped; returns how long it took.
    pub fn finish(&self, id: u64) -> Option<Duration> {
        let mut state = self.state();
        let (began, reply) = state.running.remove(&id)?;
        state.busy -= 1;
        state.begin();
        // The layer may have dropped the call, which it then does not hear of.
        let _ = reply.send(());
        Some(Instant::now() - began)
    }
}

impl State {
    fn begin(&mut self) {
        while self.busy < self.servers {
            let Some((id, work)) = self.waiting.pop_front() else { return };
            let Some(reply) = self.replies.remove(&id) else { continue };
            let now = Instant::now();
            self.busy += 1;
            self.running.insert(id, (now, reply));
            self.news.begun.push((now + work, id));
        }
    }
}

impl Service<Request> for Backend {
    type Response = ();
    type Error = BoxError;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Call {
        let (reply, done) = oneshot::channel();
        let mut state = self.state();
        state.news.called.push(request.id);
        state.waiting.push_back((request.id, request.work));
        state.replies.insert(request.id, reply);
        state.begin();
        drop(state);
        Call { id: request.id, backend: self.clone(), done }
    }
}

/// Dropping it stops the work.
pub struct Call {
    id: u64,
    backend: Backend,
    done: oneshot::Receiver<()>,
}

impl Future for Call {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.done).poll(cx).map(|done| done.map_err(Into::into))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.backend.state();
        state.replies.remove(&self.id);
        if let Some((began, _)) = state.running.remove(&self.id) {
            state.busy -= 1;
            state.news.stopped.push((self.id, Instant::now() - began));
            state.begin();
        }
    }
}
