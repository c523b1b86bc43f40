//! Wakers that use the leveler on each occasion.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use tower::{Layer, Service};
use tower_load_leveling::{Handle, LoadLevel, LoadLevelLayer};

use super::{
    gate::{Gate, GateService},
    settle,
};

/// A leveler for the wakers.
pub struct World {
    pub service: LoadLevel<GateService>,
    pub handle: Handle,
    pub acts: AtomicUsize,
}

impl World {
    pub fn new(layer: &LoadLevelLayer, gate: &Gate) -> Arc<Self> {
        let (service, handle) = (layer.layer(gate.service()), layer.handle());
        Arc::new(Self { service, handle, acts: AtomicUsize::new(0) })
    }

    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(Hostile(Arc::downgrade(self))))
    }

    fn act(self: &Arc<Self>) {
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
        }
        if DEPTH.get() >= 2 {
            return;
        }
        DEPTH.set(DEPTH.get() + 1);
        self.acts.fetch_add(1, SeqCst);
        self.do_everything();
        DEPTH.set(DEPTH.get() - 1);
    }

    /// Does everything that a program may do with a leveler, but wait.
    fn do_everything(self: &Arc<Self>) {
        let Self { service, handle, .. } = &**self;
        let stats = handle.stats();
        assert!(!format!("{handle:?} {service:?}").is_empty());
        handle.set_limit(stats.limit + 1).expect("not 0");
        handle.set_limit(stats.limit).expect("not 0");
        handle.set_capacity(stats.capacity + 1);
        handle.set_capacity(stats.capacity);
        handle.set_max_wait(None);
        handle.pause();
        handle.resume();
        let mut service = service.clone();
        for _ in 0..2 {
            let waker = self.waker();
            let mut cx = Context::from_waker(&waker);
            assert!(pin!(handle.changed()).poll(&mut cx).is_pending());
            if service.poll_ready(&mut cx).is_ready() {
                let mut call = pin!(service.call(0));
                let _ = call.as_mut().poll(&mut cx);
            }
        }
    }

    pub async fn ends_at_rest(&self) {
        settle().await;
        let stats = self.handle.stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0), "{stats:?}");
        assert_eq!(self.handle.room(), stats.capacity + stats.limit, "{stats:?}");
        assert!(self.acts.load(SeqCst) > 0, "no waker came to act");
    }
}

/// A waker that acts whenever it is woken, and when its last clone is dropped.
struct Hostile(Weak<World>);

impl Hostile {
    fn act(&self) {
        if let Some(world) = self.0.upgrade() {
            world.act();
        }
    }
}

impl Wake for Hostile {
    fn wake(self: Arc<Self>) {
        self.act();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.act();
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.act();
    }
}

/// Polls once with each of several wakers, each of which is dropped afterwards.
pub fn poll_with<T>(
    world: &Arc<World>,
    times: usize,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) {
    for _ in 0..times {
        let _ = poll(&mut Context::from_waker(&world.waker()));
    }
}

/// A waker that runs its task on the spot, as a single-threaded executor may.
pub struct OnTheSpot(Mutex<Running>);

struct Running {
    /// `None` during a poll, and after the end.
    task: Option<Task>,
    /// Set by a wake-up during a poll.
    is_woken: bool,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl OnTheSpot {
    /// Runs a task whenever it is woken, and now for the first time.
    pub fn run(task: impl Future<Output = ()> + Send + 'static) {
        let task: Task = Box::pin(task);
        Arc::new(Self(Mutex::new(Running { task: Some(task), is_woken: false }))).wake();
    }

    fn take(&self) -> Option<Task> {
        let mut running = self.0.lock().expect("no panic");
        running.is_woken = running.task.is_none();
        running.task.take()
    }

    /// Puts the task back, unless it was woken during the poll.
    fn put_back(&self, task: Task) -> Option<Task> {
        let mut running = self.0.lock().expect("no panic");
        if std::mem::take(&mut running.is_woken) {
            return Some(task);
        }
        running.task = Some(task);
        None
    }
}

impl Wake for OnTheSpot {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut next = self.take();
        while let Some(mut task) = next {
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            next = if polled.is_pending() { self.put_back(task) } else { None };
        }
    }
}
