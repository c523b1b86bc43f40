//! Law 1: a nested call was admitted for a free slot. Before its turn the slot goes to others, or
//! something else comes between. The call is refused at its turn, and never waits without a bound.

mod support;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    settle,
};
use tokio::{runtime, task::JoinHandle, time::sleep};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService,
};
use tower_load_leveling::{
    Builder, Class, Execution, Handle, Priority,
    error::{Reason, Rejected},
};

type Levelled = BoxCloneSyncService<(u32, Class), u32, BoxError>;
type Call = JoinHandle<Result<u32, BoxError>>;

/// The answer to the nested call, or the reason of its rejection.
type Answer = Result<u32, Option<Reason>>;

/// The ids of the outer call and of its nested call.
const OUTER: u32 = 0;
const NESTED: u32 = 1;

#[derive(Clone)]
struct World {
    gate: Gate,
    /// Of the other service.
    door: Door,
    handle: Handle,
    services: Arc<OnceLock<[Levelled; 2]>>,
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Arc<Mutex<Option<Answer>>>,
}

impl World {
    /// Calls the service, or the other one. Not nested.
    fn call(&self, nth: usize, id: u32, class: Class) {
        let call = self.service(nth).call((id, class));
        self.calls.lock().expect("whole").push(tokio::spawn(call));
    }

    fn service(&self, nth: usize) -> Levelled {
        self.services.get().expect("made")[nth].clone()
    }

    /// The answer of the nested call, while the outer call still runs.
    fn answer(&self) -> Option<Answer> {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything.
    async fn end(&self) {
        self.handle.set_rate(None).expect("valid");
        self.handle.resume();
        self.door.open();
        self.gate.finish_all();
        settle().await;
        let calls = std::mem::take(&mut *self.calls.lock().expect("whole"));
        assert!(calls.iter().all(JoinHandle::is_finished));
        let stats = self.handle.stats();
        assert_eq!((stats.queued, stats.in_flight), (0, 0));
    }
}

/// Lets an outer call of the class make a nested call of the class. In the same poll, `between`
/// follows on another thread: the drain task has no turn meanwhile.
fn play(
    layer: Builder,
    class: Class,
    to: usize,
    between: impl Fn(&World) + Send + Sync + 'static,
) -> World {
    let layer = layer.classify_request(|(_, class): &(u32, Class)| class.clone());
    let layer = layer.build().expect("valid");
    let world = World {
        gate: Gate::new(),
        door: Door::default(),
        handle: layer.handle(),
        services: Arc::default(),
        calls: Arc::default(),
        answer: Arc::default(),
    };
    let between = Arc::new(between);
    let inner = {
        let (world, class) = (world.clone(), class.clone());
        service_fn(move |(id, _): (u32, Class)| {
            let (world, class, between) = (world.clone(), class.clone(), Arc::clone(&between));
            async move {
                if id == OUTER {
                    let nested = world.service(to).call((NESTED, class));
                    let (runtime, rival) = (runtime::Handle::current(), world.clone());
                    let rivals = thread::spawn(move || {
                        let _entered = runtime.enter();
                        between(&rival);
                    });
                    rivals.join().expect("no panic");
                    let answer = nested
                        .await
                        .map_err(|error| error.downcast_ref::<Rejected>().map(Rejected::reason));
                    *world.answer.lock().expect("whole") = Some(answer);
                }
                world.gate.service().oneshot(id).await
            }
        })
    };
    let gate = world.gate.service_behind(&world.door);
    let behind = ServiceBuilder::new().map_request(|(id, _): (u32, Class)| id).service(gate);
    let services = [Levelled::new(layer.layer(inner)), Levelled::new(layer.layer(behind))];
    assert!(world.services.set(services).is_ok());
    world.call(0, OUTER, class);
    world
}

/// The class of the outer call and of the nested call. With a limit of flows, the flow keeps the
/// nested call off the direct way.
fn flow() -> Class {
    Class::new().flow(7)
}

fn high() -> Class {
    Class::new().priority(Priority::High)
}

/// Lets the nested call be overtaken, and expects a refusal without time passing.
async fn is_refused(
    layer: impl Fn() -> Builder,
    between: impl Fn(&World) + Clone + Send + Sync + 'static,
) {
    for execution in EXECUTIONS {
        let world = play(layer().execution(execution), flow(), 0, between.clone());
        settle().await;
        assert_eq!(world.answer(), Some(Err(Some(Reason::Nested))), "{execution:?}");
        let stats = world.handle.stats();
        assert_eq!((stats.refused.nested, stats.removed.nested), (0, 1), "{execution:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_a_higher_priority_takes_the_slot() {
    let _t = support::trace_init();
    is_refused(|| builder(10, 2).flow_limit(9), |world| world.call(0, 2, high())).await;
}

#[tokio::test(start_paused = true)]
async fn a_heavy_request_in_front_does_not_fit() {
    let _t = support::trace_init();
    is_refused(|| builder(10, 3).flow_limit(9), |world| world.call(0, 2, high().cost(3))).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_of_the_flow_takes_the_room_in_the_flow() {
    let _t = support::trace_init();
    is_refused(|| builder(10, 9).flow_limit(2), |world| world.call(0, 2, high().flow(7))).await;
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_flows_is_lowered() {
    let _t = support::trace_init();
    let lower = |world: &World| world.handle.set_flow_limit(1).expect("valid");
    is_refused(|| builder(10, 9).flow_limit(2), lower).await;
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_lowered() {
    let _t = support::trace_init();
    let lower = |world: &World| world.handle.set_limit(1).expect("valid");
    is_refused(|| builder(10, 9).flow_limit(9), lower).await;
}

#[tokio::test(start_paused = true)]
async fn dispatch_is_paused() {
    let _t = support::trace_init();
    is_refused(|| builder(10, 9).flow_limit(9), |world| world.handle.pause()).await;
}

/// Requests that were found to wait for the inner are not tried one by one.
#[tokio::test(start_paused = true)]
async fn the_inner_becomes_unready_and_the_call_is_parked_without_an_attempt() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 9).flow_limit(9).execution(execution);
        let world = play(layer, flow(), 1, |world| {
            world.call(1, 2, high());
            world.door.close_quietly();
        });
        settle().await;
        assert_eq!(world.answer(), Some(Err(Some(Reason::Nested))), "{execution:?}");
        assert_eq!(world.handle.stats().queued, 1, "the other one waits");
        world.end().await;
    }
}

/// A rate delays the nested call, and is no reason to refuse. Without room in its flow the call
/// would wait for as long as requests of others come at the rate.
#[tokio::test(start_paused = true)]
async fn a_pace_is_waited_for_and_room_in_the_flow_is_not() {
    let _t = support::trace_init();
    let tick = Duration::from_millis(5);
    for (flow_limit, is_served) in [(9, true), (2, false)] {
        for execution in EXECUTIONS {
            let layer = builder(100, 50).flow_limit(flow_limit).rate(1, tick).execution(execution);
            let world = play(layer, flow(), 0, |world| world.call(0, 2, high().flow(7)));
            for id in 3..13 {
                world.call(0, id, Class::new());
                sleep(tick).await;
            }
            assert!(world.handle.stats().queued > 0, "others never cease to wait");
            let refused = Err(Some(Reason::Nested));
            let answer = if is_served { None } else { Some(refused) };
            assert_eq!(world.answer(), answer, "{execution:?}");
            assert_eq!(world.gate.called().contains(&NESTED), is_served, "{execution:?}");
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lighter_request_behind_a_refused_one_takes_the_slot_at_once() {
    let _t = support::trace_init();
    for execution in EXECUTIONS {
        let layer = builder(10, 5).flow_limit(9).execution(execution);
        let world = play(layer, flow().cost(2), 0, |world| {
            world.call(0, 2, high().cost(2));
            world.call(0, 3, Class::new().priority(Priority::Low));
        });
        settle().await;
        assert_eq!(world.answer(), Some(Err(Some(Reason::Nested))), "{execution:?}");
        let mut called = world.gate.called();
        called.sort_unstable();
        assert_eq!(called, [OUTER, 2, 3], "{execution:?}");
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_left_behind_by_an_ended_outer_call_waits_like_any_other() {
    let _t = support::trace_init();
    // The outer call ends before the next turn of the drain task.
    let layer = builder(10, 1).execution(Execution::Caller).build().expect("valid");
    let left = Arc::new(Mutex::new(None));
    let service = Arc::new(OnceLock::<BoxCloneSyncService<u32, u32, BoxError>>::new());
    let inner = {
        let (handle, left, service) = (layer.handle(), Arc::clone(&left), Arc::clone(&service));
        service_fn(move |id: u32| {
            if id == OUTER {
                // The slot is free for the moment.
                handle.set_limit(2).expect("valid");
                let nested = service.get().expect("made").clone().call(NESTED);
                *left.lock().expect("whole") = Some(nested);
                handle.pause();
            }
            async move { Ok::<_, BoxError>(id) }
        })
    };
    assert!(service.set(BoxCloneSyncService::new(layer.layer(inner))).is_ok());
    let outer = service.get().expect("made").clone().oneshot(OUTER).await;
    assert_eq!(outer.expect("served"), OUTER);
    let nested = tokio::spawn(left.lock().expect("whole").take().expect("made"));
    settle().await;
    assert_eq!(layer.handle().stats().queued, 1);
    layer.handle().resume();
    assert_eq!(nested.await.expect("no panic").expect("served"), NESTED);
}
