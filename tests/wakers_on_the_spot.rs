//! Laws 10, 18 and 19, with wakers that run their tasks on the spot: inside of the wake-up, on the
//! stack and the thread of whoever frees a place, answers a call or raises a limit.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate},
    hostile::OnTheSpot,
    settle,
    watchdog::ends,
};
use tower::{Layer, Service, ServiceExt};
use tower_load_leveling::{
    Handle, LoadLevelLayer, Overflow,
    error::{Rejected, ServiceError},
    limit::{Algorithm, Sample},
};

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

#[test]
fn a_limit_raised_by_an_algorithm_may_run_those_who_wait_on_the_spot() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let builder = LoadLevelLayer::builder().capacity(0).adaptive(Raised(1.0));
            let builder = builder.overflow(Overflow::Wait).execution(execution);
            let layer = builder.build().expect("valid");
            let service = layer.layer(gate.service());
            let call = tokio::spawn(service.clone().oneshot(1));
            settle().await;
            let ended = Arc::new(AtomicUsize::new(0));
            for id in 2..=4 {
                let (service, ended) = (service.clone(), Arc::clone(&ended));
                let task = async move {
                    service.oneshot(id).await.expect("it is admitted");
                    ended.fetch_add(1, SeqCst);
                };
                OnTheSpot::run(task);
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

/// Calls until a call is served, and counts the rejected ones.
async fn call_until_served<S>(mut service: S, id: u32, rejected: Arc<AtomicUsize>)
where
    S: Service<u32, Error = tower::BoxError>,
{
    while let Err(error) = service.call(id).await {
        assert!(error.is::<Rejected>(), "{error}");
        rejected.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_removal_ends_though_the_callers_call_again_on_the_spot() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let layer = builder(8, 1).execution(execution).build().expect("valid");
            let (mut service, rejected) = (layer.layer(gate.service()), Arc::default());
            let first = service.call(0);
            for id in 1..=8 {
                OnTheSpot::run(call_until_served(service.clone(), id, Arc::clone(&rejected)));
            }
            assert_eq!(layer.handle().abort_queued(), 8, "and none of the new calls");
            assert_eq!((layer.handle().stats().queued, rejected.load(SeqCst)), (8, 8));
            gate.finish_all();
            first.await.expect("it ran");
            settle().await;
            let stats = layer.handle().stats();
            assert_eq!((stats.succeeded, stats.removed.closed), (9, 8));
        });
    }
}

#[test]
fn an_eviction_ends_though_the_callers_call_again_on_the_spot() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let gate = Gate::new();
            let builder = builder(4, 1).overflow(Overflow::EvictOldest).execution(execution);
            let layer = builder.build().expect("valid");
            let (mut service, rejected) = (layer.layer(gate.service()), Arc::default());
            let first = tokio::spawn(service.call(0));
            settle().await;
            // The last is one too many. From now on there is always one to evict.
            for id in 1..=5 {
                OnTheSpot::run(call_until_served(service.clone(), id, Arc::clone(&rejected)));
            }
            settle().await;
            assert!(rejected.load(SeqCst) > 0, "none was evicted");
            gate.finish_all();
            first.await.expect("no panic").expect("it ran");
            settle().await;
            let stats = layer.handle().stats();
            assert_eq!((stats.queued, stats.in_flight, stats.succeeded), (0, 0, 6), "{stats:?}");
            let evicted = stats.removed.evicted;
            assert_eq!((evicted, rejected.load(SeqCst) as u64), (stats.admitted - 6, evicted));
        });
    }
}

#[test]
fn many_that_wait_for_a_place_need_no_more_stack_than_few() {
    for execution in EXECUTIONS {
        ends(move || async move {
            const MANY: usize = 3000;
            let gate = Gate::new();
            let builder = builder(0, 1).overflow(Overflow::Wait).execution(execution);
            let layer = builder.build().expect("valid");
            let service = layer.layer(gate.service());
            let first = tokio::spawn(service.clone().oneshot(0));
            settle().await;
            let served = Arc::new(AtomicUsize::new(0));
            for id in 1..=MANY as u32 {
                let (service, served) = (service.clone(), Arc::clone(&served));
                OnTheSpot::run(async move {
                    service.oneshot(id).await.expect("it is admitted");
                    served.fetch_add(1, SeqCst);
                });
            }
            gate.finish_all();
            first.await.expect("no panic").expect("it ran");
            for _ in 0..MANY {
                if served.load(SeqCst) == MANY {
                    return;
                }
                settle().await;
            }
            panic!("{} were served", served.load(SeqCst));
        });
    }
}

#[test]
fn one_woken_by_the_death_of_an_inner_makes_no_nested_calls() {
    for execution in EXECUTIONS {
        ends(move || async move {
            let (gate, door) = (Gate::new(), Door::default());
            let builder = builder(1, 1).overflow(Overflow::Wait).execution(execution);
            let layer = builder.build().expect("valid");
            let mut lives = layer.layer(gate.service());
            let mut dies = layer.layer(gate.service_behind(&door));
            // All places are taken, and no slot.
            layer.handle().pause();
            let (first, second) = (tokio::spawn(dies.call(1)), tokio::spawn(lives.call(2)));
            settle().await;
            let answer = Arc::new(Mutex::new(None));
            OnTheSpot::run({
                let (mut dies, mut lives, answer) = (dies.clone(), lives.clone(), answer.clone());
                async move {
                    let error = dies.ready().await.map(drop).expect_err("it dies");
                    assert!(error.is::<ServiceError>(), "{error}");
                    let called = match lives.ready().await {
                        Ok(lives) => lives.call(3).await,
                        Err(error) => Err(error),
                    };
                    *answer.lock().expect("no panic") = Some(called);
                }
            });
            door.fail();
            layer.handle().resume();
            settle().await;
            gate.finish_all();
            first.await.expect("no panic").expect_err("its inner is dead");
            second.await.expect("no panic").expect("it ran");
            settle().await;
            let answer = answer.lock().expect("no panic").take().expect("it was woken");
            assert_eq!(answer.expect("it is served"), 3);
        });
    }
}
