//! Laws 10, 12 and 19, with wakers that act at random, on several threads at once.
//!
//! The threads make, poll and drop calls, and wait for places, room and rest, each with wakers that
//! act in any of their functions. A deadlock is a failure. In the end the books balance, and all
//! places and slots are free.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{self, Runtime};
use tower::{BoxError, Layer, Service, util::BoxCloneSyncService};
use tower_load_leveling::{Execution, Handle, LoadLevelLayer, Overflow};
use wakers::waker;

/// A step of a thread, or an act of a waker, is one of so many.
const CHOICES: u64 = 10;

const THREADS: u64 = 3;

const STEPS: u64 = 2000;

/// The calls kept to be polled and dropped, at most.
const KEPT: usize = 8;

type Call = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;
type AnyService = BoxCloneSyncService<u32, u32, BoxError>;

struct World {
    service: Mutex<AnyService>,
    handle: Handle,
    calls: Mutex<Vec<Call>>,
    random: AtomicU64,
    panics: bool,
    /// Set once the wakers are to do nothing any more.
    is_over: AtomicBool,
    faults: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(execution: Execution, overflow: Overflow, panics: bool) -> Arc<Self> {
        let builder = LoadLevelLayer::builder().capacity(3).concurrency(2).overflow(overflow);
        let builder = builder.execution(execution).max_wait(Duration::from_millis(20));
        let layer = builder.build().expect("valid");
        let inner = tower::service_fn(async |id: u32| {
            // Not by tokio's `yield_now`: under `Execution::Caller` tokio would get the waker.
            let mut left = id % 4;
            poll_fn(|cx| match left {
                0 => Poll::Ready(()),
                _ => {
                    left -= 1;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
            Ok::<_, Infallible>(id)
        });
        Arc::new(Self {
            service: Mutex::new(BoxCloneSyncService::new(layer.layer(inner))),
            handle: layer.handle(),
            calls: Mutex::default(),
            random: AtomicU64::new(1),
            panics,
            is_over: AtomicBool::new(false),
            faults: Mutex::default(),
        })
    }

    fn random(&self, below: u64) -> u64 {
        // Weyl's sequence, mixed: as random as needed.
        let next = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, SeqCst);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 31)) % below
    }

    fn waker(self: &Arc<Self>) -> Waker {
        let world = Arc::downgrade(self);
        waker(move |_| {
            if let Some(world) = world.upgrade() {
                world.act();
            }
        })
    }

    fn act(self: &Arc<Self>) {
        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
        }
        if DEPTH.get() >= 2 || self.is_over.load(SeqCst) || self.random(2) == 0 {
            return;
        }
        // A second panic while one unwinds would end the process, whoever's it is.
        if self.panics && self.random(8) == 0 && !thread::panicking() {
            // Without a message of the panic hook.
            resume_unwind(Box::new("a waker panics"));
        }
        DEPTH.set(DEPTH.get() + 1);
        let acted = catch_unwind(AssertUnwindSafe(|| self.step()));
        DEPTH.set(DEPTH.get() - 1);
        if let Err(panic) = acted {
            self.record(&*panic);
            if !thread::panicking() {
                resume_unwind(panic);
            }
        }
    }

    /// Takes note of a panic that is not a waker's.
    fn record(&self, panic: &(dyn std::any::Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied().unwrap_or("a panic");
        if text != "a waker panics" {
            lock(&self.faults).push(text.to_owned());
        }
    }

    /// Does something with the leveler.
    fn step(self: &Arc<Self>) {
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        let mut service = lock(&self.service).clone();
        match self.random(CHOICES) {
            0..=2 => {
                let mut call = service.call(self.random(100) as u32);
                if call.as_mut().poll(&mut cx).is_pending() {
                    self.keep(call);
                }
            }
            3 | 4 => {
                let call = lock(&self.calls).pop();
                if let Some(mut call) = call {
                    if call.as_mut().poll(&mut cx).is_pending() {
                        self.keep(call);
                    }
                }
            }
            5 => {
                let call = lock(&self.calls).pop();
                drop(call);
            }
            6 => drop(service.poll_ready(&mut cx)),
            7 => {
                let mut idle = Box::pin(self.handle.idle());
                let mut changed = Box::pin(self.handle.changed());
                let waits = idle.as_mut().poll(&mut cx).is_pending();
                let _ = changed.as_mut().poll(&mut cx);
                let _ = service.poll_ready(&mut cx);
                if waits {
                    let _ = idle.as_mut().poll(&mut cx);
                }
                let _ = changed.as_mut().poll(&mut cx);
            }
            8 => {
                let stats = self.handle.stats();
                self.handle.set_limit(1 + stats.limit % 3).expect("not 0");
                self.handle.pause();
                self.handle.resume();
            }
            _ => {
                self.handle.abort_queued();
            }
        }
    }

    fn keep(&self, call: Call) {
        let mut calls = lock(&self.calls);
        calls.insert(0, call);
        let oldest = if calls.len() > KEPT { calls.pop() } else { None };
        drop(calls);
        drop(oldest);
    }

    /// Takes random steps. A panic of a waker is its own.
    fn run(self: &Arc<Self>) {
        for _ in 0..STEPS {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.step())) {
                self.record(&*panic);
            }
        }
    }
}

fn play(world: &Arc<World>, runtime: &Runtime) {
    let threads = (0..THREADS).map(|_| {
        let (world, handle) = (Arc::clone(world), runtime.handle().clone());
        thread::spawn(move || {
            let _entered = handle.enter();
            world.run();
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("contained");
    }
    world.is_over.store(true, SeqCst);
    drop(std::mem::take(&mut *lock(&world.calls)));
    runtime.block_on(world.handle.idle());
    assert_eq!(*lock(&world.faults), Vec::<String>::new());
    let stats = world.handle.stats();
    let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
    assert_eq!(stats.admitted, ended + stats.removed.total(), "{stats:?}");
    assert_eq!((stats.reserved, stats.waiting_for_place), (0, 0), "{stats:?}");
    assert_eq!(world.handle.room(), stats.capacity + stats.limit, "{stats:?}");
    assert!(stats.succeeded > 0, "{stats:?}");
}

fn play_all(panics: bool) {
    for execution in [Execution::Spawn, Execution::Caller] {
        for overflow in [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest] {
            let (sender, receiver) = mpsc::channel();
            let began = Instant::now();
            thread::spawn(move || {
                let mut runtime = runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
                let world = World::new(execution, overflow, panics);
                let played = catch_unwind(AssertUnwindSafe(|| play(&world, &runtime)));
                let _ = sender.send(played.is_ok());
                runtime.shutdown_background();
            });
            let played = receiver.recv_timeout(Duration::from_secs(120));
            let what = format!("{execution:?} {overflow:?}, after {:?}", began.elapsed());
            assert!(played.unwrap_or_else(|_| panic!("it hangs: {what}")), "it fails: {what}");
        }
    }
}

#[test]
fn wakers_may_use_the_leveler_on_all_threads() {
    play_all(false);
}

#[test]
fn wakers_may_use_the_leveler_and_panic_on_all_threads() {
    play_all(true);
}
