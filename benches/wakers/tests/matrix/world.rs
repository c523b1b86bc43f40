//! A leveler, and wakers that act on it.

use std::{
    cell::Cell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{Class, Handle, LoadLevel, LoadLevelLayer};
use wakers::waker;

use super::{
    Setting,
    gate::{Gate, GateService},
};

/// The acts of a waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A call that is refused at once.
    Refused,
    /// A call, and a poll of its future.
    Called,
    /// A poll of another service, and its drop.
    Waits,
    /// The drop of a queued call.
    DropsQueued,
    /// A look at the numbers.
    Looks,
    /// New settings.
    Sets,
    Pauses,
    /// The removal of all waiting requests.
    Aborts,
    Closes,
    Panics,
}

impl Act {
    pub(crate) const EACH: [Self; 10] = [
        Self::Refused,
        Self::Called,
        Self::Waits,
        Self::DropsQueued,
        Self::Looks,
        Self::Sets,
        Self::Pauses,
        Self::Aborts,
        Self::Closes,
        Self::Panics,
    ];
}

/// A request that is late at its arrival.
pub(crate) const LATE: u32 = 0;

/// How long requests may wait.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(1);

pub(crate) type Classify = fn(&u32) -> Class;
pub(crate) type Call = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) service: LoadLevel<GateService, Classify>,
    pub(crate) handle: Handle,
    setting: Setting,
    /// Queued calls, for the wakers to drop.
    pub(crate) stash: Mutex<Vec<Call>>,
    /// Calls made by wakers, and not answered yet.
    pub(crate) made: Mutex<Vec<Call>>,
    pub(crate) acts: AtomicUsize,
    /// Set once the wakers are to do nothing any more.
    pub(crate) is_over: AtomicBool,
    /// What has gone wrong within wakers, since the leveler may contain a panic.
    pub(crate) faults: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Arc<Self> {
        let classify: Classify = |id| match *id {
            LATE => Class::new().deadline(Instant::now()),
            _ => Class::new(),
        };
        let builder = LoadLevelLayer::builder().capacity(4).concurrency(1).max_wait(MAX_WAIT);
        let builder = builder.overflow(setting.overflow).execution(setting.execution);
        let layer = builder.classify_request(classify).build().expect("valid");
        let gate = Gate::new();
        Arc::new(Self {
            service: layer.layer(gate.service()),
            handle: layer.handle(),
            gate,
            setting,
            stash: Mutex::default(),
            made: Mutex::default(),
            acts: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            faults: Mutex::default(),
        })
    }

    /// Returns a waker of the setting.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        let world = Arc::downgrade(self);
        let on = self.setting.function;
        waker(move |function| {
            if let Some(world) = world.upgrade().filter(|_| function == on) {
                world.act();
            }
        })
    }

    fn act(self: &Arc<Self>) {
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
        }
        if DEPTH.get() >= 2 || self.is_over.load(SeqCst) {
            return;
        }
        DEPTH.set(DEPTH.get() + 1);
        self.acts.fetch_add(1, SeqCst);
        let acted = catch_unwind(AssertUnwindSafe(|| self.do_act()));
        DEPTH.set(DEPTH.get() - 1);
        if let Err(panic) = acted {
            if self.setting.act != Act::Panics {
                let what = panic.downcast_ref::<&str>().map_or("a panic", |text| text);
                lock(&self.faults).push(what.to_owned());
            }
            resume_unwind(panic);
        }
    }

    fn do_act(self: &Arc<Self>) {
        let Self { service, handle, .. } = &**self;
        match self.setting.act {
            Act::Refused => drop(self.call(LATE)),
            Act::Called => {
                if let Some(call) = self.call(1) {
                    lock(&self.made).push(call);
                }
            }
            Act::Waits => {
                let waker = self.waker();
                let _ = service.clone().poll_ready(&mut Context::from_waker(&waker));
            }
            Act::DropsQueued => {
                let call = lock(&self.stash).pop();
                drop(call);
            }
            Act::Looks => {
                let stats = handle.stats();
                assert!(!format!("{handle:?} {service:?} {stats}").is_empty());
            }
            Act::Sets => {
                for limit in [3, 1] {
                    handle.set_limit(limit).expect("not 0");
                    handle.set_capacity(limit + 3);
                    handle.set_max_wait(Some(MAX_WAIT));
                    handle.set_flow_limit(None).expect("valid");
                    handle.set_rate(None).expect("valid");
                }
                handle.set_capacity(4);
            }
            Act::Pauses => {
                handle.pause();
                handle.resume();
            }
            Act::Aborts => {
                handle.abort_queued();
            }
            Act::Closes => handle.close(),
            // Without a message of the panic hook.
            Act::Panics => resume_unwind(Box::new("a waker panics")),
        }
    }

    /// Makes a call and polls its future. Returns a call that is not answered.
    fn call(self: &Arc<Self>, id: u32) -> Option<Call> {
        let mut call: Call = Box::pin(self.service.clone().call(id));
        let waker = self.waker();
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        polled.is_pending().then_some(call)
    }

    /// The laws, once nothing runs and waits.
    pub(crate) fn assert_at_rest(&self) {
        let stats = self.handle.stats();
        let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
        let removed = stats.removed.total();
        assert_eq!((stats.queued, stats.in_flight, stats.reserved), (0, 0, 0), "{stats:?}");
        assert_eq!(stats.waiting_for_place, 0, "{stats:?}");
        assert_eq!(stats.admitted, ended + removed, "{stats:?}");
        let is_closed = self.handle.is_closed();
        let room = if is_closed { 0 } else { stats.capacity + stats.limit };
        assert_eq!(self.handle.room(), room, "{stats:?}");
        assert_eq!(self.gate.running(), 0);
        assert_eq!(*lock(&self.faults), Vec::<String>::new());
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
