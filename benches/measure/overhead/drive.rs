//! The callers.

use std::{fmt::Debug, time::Instant};

use little_loadshedder::LoadShedResponse;
use tokio::task::unconstrained;
use tower::{Service, ServiceExt};

use crate::{load::Load, work::called};

/// One caller of what is measured; a clone is another.
pub(crate) trait Client: Clone + Send + 'static {
    /// Makes a call and waits for its answer.
    fn call(&mut self) -> impl Future<Output = ()> + Send;

    /// How many of its calls were queued, if it is watched.
    fn queued(&self) -> usize {
        0
    }
}

/// What came of a load.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    /// Nanoseconds of one call.
    pub(crate) nanos: f64,
    /// The share of calls that were queued, if they were watched.
    pub(crate) queued: f64,
}

/// Calls before the clock starts: buffers have grown, and `little-loadshedder` has seen that it
/// need not shed.
const WARM_UP: usize = 100;

/// Shares the calls out to the callers, each a task that makes one after the other. To start these
/// tasks is in the time, the same for all.
pub(crate) async fn drive(client: impl Client, load: Load) -> Took {
    let mut first = client.clone();
    for _ in 0..WARM_UP {
        first.call().await;
    }
    drop(first);
    let start = Instant::now();
    let tasks: Vec<_> = (0..load.callers)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for _ in 0..load.calls_of_each() {
                    client.call().await;
                }
                client.queued()
            })
        })
        .collect();
    let mut queued = 0;
    for task in tasks {
        queued += task.await.expect("no panic");
    }
    let calls = (load.callers * load.calls_of_each()) as f64;
    Took { nanos: start.elapsed().as_nanos() as f64 / calls, queued: queued as f64 / calls }
}

/// A caller of a service. It insists on being served: a refusal would be cheaper than a call.
#[derive(Clone)]
pub(crate) struct Tower<S> {
    service: S,
    watched: bool,
    queued: usize,
}

impl<S> Tower<S> {
    pub(crate) fn new(service: S, watched: bool) -> Self {
        Self { service, watched, queued: 0 }
    }
}

impl<S> Client for Tower<S>
where
    S: Service<(), Response: Served, Error: Debug, Future: Send> + Clone + Send + 'static,
{
    async fn call(&mut self) {
        let ready = self.service.ready().await.expect("ready");
        let before = if self.watched { called() } else { 0 };
        let call = ready.call(());
        if self.watched && called() == before {
            self.queued += 1;
        }
        assert!(call.await.expect("answered").is_served());
    }

    fn queued(&self) -> usize {
        self.queued
    }
}

/// Whether a response is one of the inner.
pub(crate) trait Served {
    fn is_served(&self) -> bool;
}

impl Served for () {
    fn is_served(&self) -> bool {
        true
    }
}

impl Served for LoadShedResponse<()> {
    fn is_served(&self) -> bool {
        matches!(self, Self::Inner(()))
    }
}

/// A caller without tokio's budget. `LoadShed` takes every `Pending` of what is below for overload,
/// also that by which a task whose budget is used up is made to pause.
#[derive(Clone)]
pub(crate) struct Unconstrained<C>(pub(crate) C);

impl<C: Client> Client for Unconstrained<C> {
    async fn call(&mut self) {
        unconstrained(self.0.call()).await;
    }

    fn queued(&self) -> usize {
        self.0.queued()
    }
}
