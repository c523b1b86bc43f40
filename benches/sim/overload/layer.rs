//! Level 2: the real layer, on a clock that stands still in between.
//!
//! The engine calls it as it calls the model. What the layer does of itself, such as to wake up
//! because somebody is late, happens at the next event, which is half a millisecond off in most
//! scenarios.

use std::{
    collections::HashMap,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
    task::yield_now,
    time::{Instant, advance},
};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    Handle, LoadLevel, LoadLevelLayer, Unclassified,
    limit::{Algorithm, Outcome},
};

use crate::front::{Boxed, CAPACITY, Front};

type Judge = fn(Result<&Outcome, &BoxError>) -> Outcome;

/// A leveler with the runtime that it runs on.
pub struct Layered {
    runtime: Runtime,
    origin: Instant,
    service: LoadLevel<Backend, Unclassified, Judge>,
    handle: Handle,
    backend: Backend,
}

impl Layered {
    pub fn new(algorithm: Box<dyn Algorithm>, max_wait: Duration) -> Self {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        let judge: Judge = |result| result.map_or(Outcome::Ignore, |outcome| *outcome);
        let layer = LoadLevelLayer::builder()
            .capacity(CAPACITY)
            .max_wait(max_wait)
            .adaptive(Boxed(algorithm))
            .classify_response(judge)
            .build()
            .expect("valid settings");
        let backend = Backend::default();
        let origin = runtime.block_on(async { Instant::now() });
        let (handle, service) = (layer.handle(), layer.layer(backend.clone()));
        Self { runtime, origin, service, handle, backend }
    }

    /// Goes on to this moment, does something, and lets the layer do all that follows from it.
    fn at(
        &mut self,
        now: f64,
        act: impl FnOnce(&mut LoadLevel<Backend, Unclassified, Judge>, &Backend),
    ) {
        let at = self.origin + Duration::from_secs_f64(now);
        let (service, backend) = (&mut self.service, &self.backend);
        self.runtime.block_on(async {
            let ahead = at.saturating_duration_since(Instant::now());
            if !ahead.is_zero() {
                advance(ahead).await;
            }
            act(service, backend);
            for _ in 0..ROUNDS {
                yield_now().await;
            }
        });
    }
}

/// Of the scheduler: an answer wakes the task of its call, which wakes the drain task, which makes
/// a call. One to spare.
const ROUNDS: usize = 4;

impl Front for Layered {
    fn offer(&mut self, now: f64, id: usize) {
        self.at(now, |service, backend| {
            let (call, backend) = (service.call(id), backend.clone());
            tokio::spawn(async move {
                if call.await.is_err() {
                    backend.desk().turned_away.push(id);
                }
            });
        });
    }

    fn end(&mut self, now: f64, id: usize, outcome: Outcome) {
        self.at(now, |_, backend| {
            if let Some(answer) = backend.desk().running.remove(&id) {
                // The layer drops no call of a caller who waits.
                let _ = answer.send(outcome);
            }
        });
    }

    fn tick(&mut self, now: f64) {
        self.at(now, |_, _| {});
    }

    fn calls(&mut self) -> Vec<usize> {
        mem::take(&mut self.backend.desk().called)
    }

    fn turned_away(&mut self) -> Vec<usize> {
        mem::take(&mut self.backend.desk().turned_away)
    }

    fn limit(&self) -> f64 {
        self.handle.stats().limit as f64
    }
}

/// The inner service: hands calls to the engine, and waits for it to answer.
#[derive(Clone, Default)]
struct Backend(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    called: Vec<usize>,
    turned_away: Vec<usize>,
    running: HashMap<usize, oneshot::Sender<Outcome>>,
}

impl Backend {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Service<usize> for Backend {
    type Response = Outcome;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, id: usize) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        let mut desk = self.desk();
        desk.called.push(id);
        desk.running.insert(id, answer);
        drop(desk);
        Box::pin(async { Ok(answered.await?) })
    }
}
