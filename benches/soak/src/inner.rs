//! The inner services, and what they see.

use std::{
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Semaphore;
use tower::{BoxError, Service};

use crate::{plan::Plan, report::fault, rng::Rng, world::World};

/// The payload of panics that are meant.
pub(crate) struct Meant;

/// What the inner services of a round see.
#[derive(Debug)]
pub(crate) struct Seen {
    plan: Plan,
    /// The cost of running calls, but for those that bypass.
    running: AtomicUsize,
    /// Requests that were not dropped yet.
    pub(crate) requests: AtomicI64,
    /// Services that were not dropped yet.
    pub(crate) services: AtomicI64,
    /// Requests that bypass the queue, made.
    pub(crate) bypassed: AtomicU64,
    /// Holds calls back until it is closed.
    pub(crate) gate: Semaphore,
    /// For nested calls.
    pub(crate) world: OnceLock<Weak<World>>,
}

impl Seen {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        Arc::new(Self {
            plan: plan.clone(),
            running: AtomicUsize::new(0),
            requests: AtomicI64::new(0),
            services: AtomicI64::new(0),
            bypassed: AtomicU64::new(0),
            gate: Semaphore::new(0),
            world: OnceLock::new(),
        })
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }
}

/// A nested call.
pub(crate) type Nested = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// What an inner does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    EndsAtOnce,
    Yields(u8),
    Sleeps(Duration),
    Fails,
    PanicsInCall,
    PanicsLater,
    /// Runs until its caller gives up.
    Forever,
    /// Runs until the gate is closed.
    Gated,
    /// Calls its own leveler, and so on, so many deep. Drawn from the seed.
    Nests(u8, u64),
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) task: Task,
    pub(crate) class: tower_load_leveling::Class,
    pub(crate) cost: usize,
    pub(crate) bypasses: bool,
    seen: Arc<Seen>,
}

impl Request {
    pub(crate) fn new(seen: &Arc<Seen>, task: Task, class: tower_load_leveling::Class) -> Self {
        seen.requests.fetch_add(1, SeqCst);
        Self { task, class, cost: 1, bypasses: false, seen: Arc::clone(seen) }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.seen.requests.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    seen: Arc<Seen>,
    rng: Rng,
    /// The number of polls until it dies.
    life: Option<u64>,
    is_unready: bool,
}

impl Inner {
    pub(crate) fn new(seen: &Arc<Seen>, mut rng: Rng, dies: bool) -> Self {
        seen.services.fetch_add(1, SeqCst);
        let life = dies.then(|| rng.below(1000));
        Self { seen: Arc::clone(seen), rng, life, is_unready: false }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.seen.services.fetch_sub(1, SeqCst);
    }
}

impl Service<Request> for Inner {
    type Response = ();
    type Error = BoxError;
    type Future = Running;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.life {
            Some(0) => return Poll::Ready(Err("the inner is dead".into())),
            Some(life) => *life -= 1,
            None => {}
        }
        self.is_unready = !self.is_unready && self.rng.one_in(50);
        if self.is_unready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Running {
        let runs = Runs::begin(&request);
        if let Task::PanicsInCall = request.task {
            resume_unwind(Box::new(Meant));
        }
        Running { yields: 0, sleep: None, gate: None, nested: None, request, _runs: runs }
    }
}

/// A call that runs: counted until its future is dropped.
struct Runs {
    seen: Arc<Seen>,
    cost: usize,
}

impl Runs {
    fn begin(request: &Request) -> Self {
        let seen = Arc::clone(&request.seen);
        let plan = &seen.plan;
        let is_exact = !plan.changes && !plan.is_adaptive;
        let cost = match request.bypasses {
            true => 0,
            // A request may have been given slots under another limit.
            false if is_exact => request.cost.min(plan.limit),
            false => 1,
        };
        let running = seen.running.fetch_add(cost, SeqCst) + cost;
        if running > plan.highest {
            fault(plan, &format!("law 2: {running} run with a limit of {}", plan.highest));
        }
        Self { seen, cost }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(self.cost, SeqCst);
    }
}

pub(crate) struct Running {
    yields: u8,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    nested: Option<Nested>,
    request: Request,
    _runs: Runs,
}

impl Future for Running {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.request.task {
            Task::EndsAtOnce | Task::PanicsInCall => Poll::Ready(Ok(())),
            Task::Fails => Poll::Ready(Err("the inner fails".into())),
            Task::Forever => Poll::Pending,
            Task::Yields(times) if this.yields < times => {
                this.yields += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Task::PanicsLater if this.yields == 0 => {
                this.yields += 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Task::PanicsLater => resume_unwind(Box::new(Meant)),
            Task::Yields(_) => Poll::Ready(Ok(())),
            Task::Sleeps(time) => {
                // Not made in `call`: a timer belongs to the runtime on which it is made.
                let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                sleep.as_mut().poll(cx).map(Ok)
            }
            Task::Nests(depth, seed) => {
                let world = this.request.seen.world.get().and_then(Weak::upgrade);
                let Some(world) = world else { return Poll::Ready(Ok(())) };
                let nested = this.nested.get_or_insert_with(|| world.nested_call(depth, seed));
                // Whatever it is rejected for: this call fails in its own words.
                nested.as_mut().poll(cx).map_err(|_| "the inner fails: nested".into())
            }
            Task::Gated => {
                let seen = &this.request.seen;
                let gate = this.gate.get_or_insert_with(|| {
                    let seen = Arc::clone(seen);
                    Box::pin(async move { drop(seen.gate.acquire().await) })
                });
                gate.as_mut().poll(cx).map(Ok)
            }
        }
    }
}
