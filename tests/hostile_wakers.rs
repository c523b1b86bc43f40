//! Law 19: nothing that the wakers of others do on the spot finds the leveler locked.
//!
//! A waker is code of the user's: its last drop may drop a task with all that it owns, and some
//! executors run the woken task inside of `wake`. The wakers here call, wait, look and change
//! settings on each occasion. A leveler that is locked at that moment panics in these tests, and
//! waits for ever in a release build.

mod support;

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use support::{EXECUTIONS, builder, gate::Gate, gate::GateService, settle};
use tower::{Layer, Service};
use tower_load_leveling::{
    Execution, Handle, LoadLevel, LoadLevelLayer, Overflow,
    limit::{Algorithm, Sample},
};

/// Runs a test on a thread of its own, with a runtime, and fails if it does not end.
fn ends<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(test());
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().expect("the test passes"),
    }
}

struct World {
    service: LoadLevel<GateService>,
    handle: Handle,
    acts: AtomicUsize,
}

impl World {
    fn new(layer: &LoadLevelLayer, gate: &Gate) -> Arc<Self> {
        let (service, handle) = (layer.layer(gate.service()), layer.handle());
        Arc::new(Self { service, handle, acts: AtomicUsize::new(0) })
    }

    fn waker(self: &Arc<Self>) -> Waker {
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

    async fn ends_at_rest(&self) {
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

fn layer(capacity: usize, limit: usize, execution: Execution) -> LoadLevelLayer {
    let builder = builder(capacity, limit).overflow(Overflow::Wait).execution(execution);
    builder.build().expect("valid")
}

/// Polls once with each of several wakers, each of which is dropped afterwards.
fn poll_with<T>(
    world: &Arc<World>,
    times: usize,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) {
    for _ in 0..times {
        let _ = poll(&mut Context::from_waker(&world.waker()));
    }
}

#[test]
fn a_service_that_waits_for_a_place_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(0, 1, execution), &gate);
            let mut first = world.service.clone();
            let call = tokio::spawn(tower::ServiceExt::oneshot(first.clone(), 1));
            settle().await;
            // The waker of each poll is replaced by that of the next, and dropped.
            let mut waiting = [(); 3].map(|()| world.service.clone());
            for service in &mut waiting {
                poll_with(&world, 3, |cx| service.poll_ready(cx));
            }
            let mut leaving = world.service.clone();
            poll_with(&world, 1, |cx| leaving.poll_ready(cx));
            drop(leaving);
            let [one, two, _three] = waiting;
            drop(one);
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            settle().await;
            drop(two);
            poll_with(&world, 1, |cx| first.poll_ready(cx));
            drop((first, _three));
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn a_call_that_waits_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(4, 1, execution), &gate);
            let mut service = world.service.clone();
            // All but the first are queued.
            let mut calls: Vec<_> = (1..=4).map(|id| Box::pin(service.call(id))).collect();
            for call in &mut calls {
                poll_with(&world, 3, |cx| call.as_mut().poll(cx));
            }
            settle().await;
            let given_up = calls.pop();
            drop(given_up);
            let removed = world.handle.abort_queued();
            assert_eq!(removed, 2);
            gate.finish_all();
            settle().await;
            for call in &mut calls {
                poll_with(&world, 2, |cx| call.as_mut().poll(cx));
            }
            drop(calls);
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn a_queued_call_that_is_dispatched_may_have_any_waker() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let world = World::new(&layer(2, 1, execution), &gate);
            let mut service = world.service.clone();
            let mut calls: Vec<_> = (1..=3).map(|id| Box::pin(service.call(id))).collect();
            for _ in 0..4 {
                for call in &mut calls {
                    poll_with(&world, 2, |cx| call.as_mut().poll(cx));
                }
                gate.finish_all();
                settle().await;
            }
            drop(calls);
            world.ends_at_rest().await;
        });
    }
}

#[test]
fn one_that_watches_may_have_any_waker() {
    ends(|| async {
        let gate = Gate::new();
        let world = World::new(&layer(1, 1, Execution::Spawn), &gate);
        let mut service = world.service.clone();
        let call = service.call(1);
        let (mut idle, mut changed) = (pin!(world.handle.idle()), pin!(world.handle.changed()));
        poll_with(&world, 3, |cx| idle.as_mut().poll(cx));
        poll_with(&world, 3, |cx| changed.as_mut().poll(cx));
        settle().await;
        gate.finish_all();
        call.await.expect("it was admitted");
        idle.await;
        changed.await;
        world.ends_at_rest().await;
    });
}

/// A waker that panics.
struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_a_place() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let layer = layer(0, 1, execution);
            let service = layer.layer(gate.service());
            let call = tokio::spawn(tower::ServiceExt::oneshot(service.clone(), 1));
            settle().await;
            let mut first = service.clone();
            let waker = Waker::from(Arc::new(Panicking));
            assert!(first.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            let second = tokio::spawn(tower::ServiceExt::oneshot(service.clone(), 2));
            settle().await;
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            second.await.expect("no panic").expect("it was admitted");
            drop(first);
            assert_eq!(layer.handle().stats().succeeded, 2);
        });
    }
}

/// Raises the limit with each sample.
#[derive(Debug)]
struct Raised(f64);

impl Algorithm for Raised {
    fn limit(&self) -> f64 {
        self.0
    }

    fn on_sample(&mut self, _: &Sample) {
        self.0 += 1.0;
    }
}

/// A waker that runs its task on the spot, as a single-threaded executor may.
struct OnTheSpot(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Wake for OnTheSpot {
    fn wake(self: Arc<Self>) {
        let Some(mut task) = self.0.lock().expect("no panic").take() else { return };
        let waker = Waker::from(Arc::clone(&self));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.0.lock().expect("no panic") = Some(task);
        }
    }
}

#[test]
fn a_limit_raised_by_an_algorithm_may_run_those_who_wait_on_the_spot() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let builder = LoadLevelLayer::builder().capacity(0).adaptive(Raised(1.0));
            let builder = builder.overflow(Overflow::Wait).execution(execution);
            let layer = builder.build().expect("valid");
            let service = layer.layer(gate.service());
            let call = tokio::spawn(tower::ServiceExt::oneshot(service.clone(), 1));
            settle().await;
            let ended = Arc::new(AtomicUsize::new(0));
            for id in 2..=4 {
                let (service, ended) = (service.clone(), Arc::clone(&ended));
                let task = async move {
                    tower::ServiceExt::oneshot(service, id).await.expect("it is admitted");
                    ended.fetch_add(1, SeqCst);
                };
                Arc::new(OnTheSpot(Mutex::new(Some(Box::pin(task))))).wake();
            }
            gate.finish_all();
            call.await.expect("no panic").expect("it was admitted");
            settle().await;
            assert_eq!(ended.load(SeqCst), 3);
            assert!(layer.handle().limit() >= 2, "the limit was not raised");
        });
    }
}

/// Uses the leveler that it decides for.
#[derive(Debug, Default)]
struct Selfish(Arc<Mutex<Option<Handle>>>);

impl Algorithm for Selfish {
    fn limit(&self) -> f64 {
        if let Some(handle) = &*self.0.lock().expect("no panic") {
            let _ = handle.stats();
        }
        3.0
    }

    fn on_sample(&mut self, _: &Sample) {
        if let Some(handle) = &*self.0.lock().expect("no panic") {
            handle.set_limit(7).expect("not 0");
            handle.resume_adaptive();
            handle.set_limit(7).expect("not 0");
        }
    }
}

#[test]
fn an_algorithm_may_use_the_handle_of_its_own_leveler() {
    ends(|| async {
        let handle = Arc::new(Mutex::new(None));
        let algorithm = Selfish(Arc::clone(&handle));
        let layer = LoadLevelLayer::builder().capacity(1).adaptive(algorithm).build();
        let layer = layer.expect("valid");
        *handle.lock().expect("no panic") = Some(layer.handle());
        let mut service = layer.layer(Gate::open().service());
        service.call(1).await.expect("it was admitted");
        assert_eq!(layer.handle().limit(), 7, "set by hand, within a sample");
        assert!(!layer.handle().is_adaptive());
        // The handle would keep the leveler alive.
        *handle.lock().expect("no panic") = None;
    });
}

#[cfg(feature = "http")]
mod bodies {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use http::{HeaderMap, Response};
    use http_body::{Body, Frame};
    use tower::service_fn;
    use tower_load_leveling::http::Hold;

    use super::*;

    /// A body that is told what to yield, and keeps the waker of its reader.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Orders>>);

    /// The frames to come, and the reader that waits for one.
    type Orders = (VecDeque<Option<Frame<Bytes>>>, Option<Waker>);

    impl Told {
        fn tell(&self, frame: Option<Frame<Bytes>>) {
            let waker = {
                let mut told = self.0.lock().expect("no panic");
                told.0.push_back(frame);
                told.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    impl Body for Told {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let mut told = self.0.lock().expect("no panic");
            match told.0.pop_front() {
                Some(frame) => Poll::Ready(frame.map(Ok)),
                None => {
                    told.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    #[test]
    fn the_reader_of_a_held_body_may_have_any_waker() {
        for has_trailers in [false, true] {
            ends(move || async move {
                let told = Told::default();
                let builder = builder(0, 1).overflow(Overflow::Wait);
                let builder = builder.hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(9));
                let layer = builder.build().expect("valid");
                let inner = {
                    let told = told.clone();
                    service_fn(move |_: u32| {
                        let response = Response::new(told.clone());
                        async move { Ok::<_, std::convert::Infallible>(response) }
                    })
                };
                let handle = layer.handle();
                let world = Arc::new(World {
                    service: LoadLevelLayer::new(0, 1).layer(Gate::new().service()),
                    handle: handle.clone(),
                    acts: AtomicUsize::new(0),
                });
                let mut service = layer.layer(inner);
                let mut body = service.call(1).await.expect("it was admitted").into_body();
                // Waits for the place that the body keeps.
                let mut waiting = service.clone();
                poll_with(&world, 2, |cx| waiting.poll_ready(cx));
                poll_with(&world, 3, |cx| Pin::new(&mut body).poll_frame(cx));
                told.tell(Some(Frame::data(Bytes::from_static(b"data"))));
                poll_with(&world, 3, |cx| Pin::new(&mut body).poll_frame(cx));
                if has_trailers {
                    told.tell(Some(Frame::trailers(HeaderMap::new())));
                    poll_with(&world, 1, |cx| Pin::new(&mut body).poll_frame(cx));
                }
                told.tell(None);
                poll_with(&world, 1, |cx| Pin::new(&mut body).poll_frame(cx));
                drop((waiting, body));
                settle().await;
                assert_eq!(handle.stats().succeeded, 1);
                world.ends_at_rest().await;
            });
        }
    }

    #[test]
    fn a_held_body_may_be_cut_off_under_a_reader_with_any_waker() {
        ends(|| async {
            let told = Told::default();
            let builder = builder(0, 1).overflow(Overflow::Wait);
            let builder = builder.hold_until(Hold::BodyEnd).body_idle(Duration::from_secs(9));
            let layer = builder.build().expect("valid");
            let inner = {
                let told = told.clone();
                service_fn(move |_: u32| {
                    let response = Response::new(told.clone());
                    async move { Ok::<_, std::convert::Infallible>(response) }
                })
            };
            let world = Arc::new(World {
                service: LoadLevelLayer::new(0, 1).layer(Gate::new().service()),
                handle: layer.handle(),
                acts: AtomicUsize::new(0),
            });
            let mut service = layer.layer(inner);
            let mut body = service.call(1).await.expect("it was admitted").into_body();
            let mut waiting = service.clone();
            poll_with(&world, 2, |cx| waiting.poll_ready(cx));
            poll_with(&world, 2, |cx| Pin::new(&mut body).poll_frame(cx));
            told.tell(Some(Frame::data(Bytes::from_static(b"data"))));
            // Nobody reads on.
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop((waiting, body));
            world.ends_at_rest().await;
        });
    }
}
