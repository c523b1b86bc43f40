//! The drain task lives on one runtime, and serves callers of others.

use super::*;

#[test]
fn calls_are_served_although_the_runtime_of_the_first_call_is_not_driven_any_more() {
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let gate = Gate::open();
        let mut service = layer.layer(gate.service());
        let idle = runtime();
        soon(&idle, service.call(0)).expect("answered");
        let driven = runtime();
        driven.block_on(async {
            let calls: Vec<_> = (1..6).map(|id| tokio::spawn(service.call(id))).collect();
            for call in calls {
                let call = timeout(WAIT, call).await.expect("should be served");
                call.expect("no panic").expect("answered");
            }
        });
        assert_eq!(gate.called(), [0, 1, 2, 3, 4, 5]);
        // And back, once that one is not driven either.
        let calls: Vec<_> = (6..9)
            .map(|id| {
                let _entered = idle.enter();
                service.call(id)
            })
            .collect();
        for call in calls {
            soon(&idle, call).expect("answered");
        }
    }
}

#[test]
fn a_third_runtime_serves_itself_if_neither_of_two_others_is_driven() {
    let layer = LoadLevelLayer::new(10, 1);
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let (first, second, third) = (runtime(), runtime(), runtime());
    let running = first.block_on(async {
        let running = service.call(0);
        settle().await;
        running
    });
    let waits = second.block_on(async {
        let waits = service.call(1);
        settle().await;
        waits
    });
    drop(running);
    drop(waits);
    third.block_on(async {
        let calls: Vec<_> = (2..5).map(|id| service.call(id)).collect();
        gate.finish_all();
        for call in calls {
            timeout(WAIT, call).await.expect("should be served").expect("answered");
        }
    });
}

#[test]
fn max_wait_is_kept_although_the_runtime_of_the_drain_task_is_not_driven() {
    for millis in [5, 20, 70, 200] {
        let max_wait = Duration::from_millis(millis);
        let layer = builder(10, 1).max_wait(max_wait).build().expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let idle = runtime();
        idle.block_on(async {
            let first = service.call(0);
            settle().await;
            gate.finish(0);
            first.await.expect("answered");
        });
        runtime().block_on(async {
            let _running = service.call(1);
            let mut waits = pin!(service.call(2));
            let start = Instant::now();
            // A standby is there by now, and has to look again sooner.
            let _ = timeout(Duration::from_millis(1), &mut waits).await;
            let sooner = service.call(3);
            let answer = timeout(WAIT, waits).await.expect("should be answered");
            assert_eq!(reason(answer), Reason::MaxWait);
            let waited = start.elapsed();
            let late = waited.saturating_sub(max_wait);
            assert!(waited >= max_wait && late <= Duration::from_millis(2), "{waited:?}");
            let answer = timeout(WAIT, sooner).await.expect("should be answered");
            assert_eq!(reason(answer), Reason::MaxWait);
            let late = start.elapsed().saturating_sub(max_wait);
            assert!(late <= Duration::from_millis(3), "{late:?}");
        });
    }
}

#[test]
fn a_standby_looks_again_in_time_for_a_request_that_is_late_sooner() {
    let layer = builder(10, 1)
        .classify_request(|id: &u32| match id {
            3 => tower_load_leveling::Class::new()
                .deadline(Instant::now() + Duration::from_millis(7)),
            _ => tower_load_leveling::Class::new(),
        })
        .build()
        .expect("valid");
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let idle = runtime();
    let _holds = idle.block_on(async {
        let holds = service.call(0);
        settle().await;
        holds
    });
    runtime().block_on(async {
        let _waits = service.call(2);
        settle().await;
        let start = Instant::now();
        let sooner = timeout(WAIT, service.call(3)).await.expect("should be answered");
        assert_eq!(reason(sooner), Reason::Deadline);
        assert!(start.elapsed() <= Duration::from_millis(9), "{:?}", start.elapsed());
    });
}

#[test]
fn a_place_is_offered_although_the_runtime_of_the_drain_task_is_not_driven() {
    for capacity in [0, 1] {
        let layer = builder(capacity, 1).overflow(Overflow::Wait).build().expect("valid");
        let gate = Gate::new();
        let service = layer.layer(gate.service());
        let idle = runtime();
        let held = idle.block_on(async {
            let mut held = Vec::new();
            for id in 0..=capacity as u32 {
                let mut service = service.clone();
                held.push(service.ready().await.expect("ready").call(id));
                settle().await;
            }
            // Polled, and then forgotten.
            let mut forgotten = service.clone();
            let polled = poll_fn(|cx| Poll::Ready(forgotten.poll_ready(cx).is_pending())).await;
            assert!(polled);
            (held, forgotten)
        });
        let driven = runtime();
        driven.block_on(async {
            let mut service = service.clone();
            let calls = tokio::spawn(async move {
                for id in 10..15 {
                    service.ready().await.expect("ready").call(id).await.expect("answered");
                }
            });
            settle().await;
            drop(held.0);
            gate.finish_all();
            timeout(WAIT, calls).await.expect("should be served").expect("no panic");
        });
        drop(held.1);
    }
}

/// Counts its ticks.
#[derive(Clone, Default)]
struct Ticks(Arc<AtomicUsize>);

impl Algorithm for Ticks {
    fn limit(&self) -> f64 {
        4.0
    }

    fn on_sample(&mut self, _: &Sample) {}

    fn on_tick(&mut self, _: Instant, _: &Load) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn an_algorithm_gets_its_ticks_although_the_runtime_of_the_drain_task_is_not_driven() {
    for busy in [false, true] {
        let ticks = Ticks::default();
        let layer = LoadLevelLayer::builder().adaptive(ticks.clone()).build().expect("valid");
        let gate = Gate::new();
        let mut service = layer.layer(gate.service());
        let idle = runtime();
        let kept = idle.block_on(async {
            let first = service.call(0);
            sleep(Duration::from_millis(100)).await;
            // The ticker is on when the runtime ceases to be driven, or was off.
            if busy {
                return Some(first);
            }
            gate.finish(0);
            first.await.expect("answered");
            sleep(Duration::from_millis(100)).await;
            None
        });
        let before = ticks.0.load(SeqCst);
        runtime().block_on(async {
            sleep(Duration::from_secs(1)).await;
            // The ticks are missed by one call in sixteen.
            for id in 0..16 {
                drop(service.call(id));
            }
            let _running = service.call(20);
            sleep(Duration::from_secs(1)).await;
        });
        let ticked = ticks.0.load(SeqCst) - before;
        assert!(ticked > 50, "busy: {busy}, {ticked} ticks in a second");
        drop(kept);
    }
}

#[test]
fn the_pace_is_kept_when_the_drain_task_moves() {
    let layer = builder(10, 10).rate(1, Duration::from_millis(400)).build().expect("valid");
    let gate = Gate::open();
    let mut service = layer.layer(gate.service());
    let (idle, driven) = (runtime(), runtime());
    soon(&idle, service.call(0)).expect("answered");
    let start = driven.block_on(async { Instant::now() });
    driven.block_on(async {
        let calls: Vec<_> = (1..4).map(|id| service.call(id)).collect();
        for call in calls {
            timeout(WAIT, call).await.expect("should be served").expect("answered");
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1150), "{took:?} for three after another");
    });
}

#[test]
fn a_runtime_driven_again_is_served_after_the_next_one_ceases_to_be_driven() {
    let layer = LoadLevelLayer::new(10, 1);
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let (first, second) = (runtime(), runtime());
    let (running, waits) = first.block_on(async {
        let calls = (service.call(0), service.call(1));
        settle().await;
        calls
    });
    // The drain task moves to the second one.
    second.block_on(async {
        let gone = timeout(Duration::from_millis(300), service.call(2)).await;
        assert!(gone.is_err(), "the slot is taken");
    });
    // Which is not driven any more when the slot becomes free.
    gate.finish_all();
    soon(&first, running).expect("answered");
    soon(&first, waits).expect("answered");
    soon(&first, service.call(3)).expect("answered");
    drop(second);
    soon(&first, service.call(4)).expect("answered");
    assert_eq!(layer.handle().stats().queued, 0);
}

#[test]
fn a_runtime_that_dies_after_the_drain_task_has_left_it_takes_nothing_along() {
    let layer = LoadLevelLayer::new(10, 1);
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let (first, second) = (runtime(), runtime());
    soon(&first, async {
        let call = service.call(0);
        settle().await;
        gate.finish(0);
        call.await
    })
    .expect("answered");
    let calls = second.block_on(async {
        let calls = (service.call(1), service.call(2));
        sleep(Duration::from_millis(300)).await;
        calls
    });
    drop(first);
    gate.finish_all();
    soon(&second, calls.0).expect("answered");
    soon(&second, calls.1).expect("answered");
}

#[test]
fn everything_that_was_admitted_is_finished_although_all_is_dropped_and_the_first_is_not_driven() {
    let layer = LoadLevelLayer::new(10, 1);
    let gate = Gate::open();
    let mut service = layer.layer(gate.service());
    let (first, second) = (runtime(), runtime());
    soon(&first, service.call(0)).expect("answered");
    layer.handle().pause();
    let calls: Vec<_> = {
        let _entered = second.enter();
        (1..4).map(|id| service.call(id)).collect()
    };
    drop((layer, service));
    for call in calls {
        soon(&second, call).expect("answered");
    }
    // Neither a drain task nor a standby is left.
    second.block_on(async { sleep(Duration::from_millis(200)).await });
    assert_eq!(second.handle().metrics().num_alive_tasks(), 0);
    first.block_on(settle());
    assert_eq!(first.handle().metrics().num_alive_tasks(), 0);
}

#[test]
fn in_a_single_runtime_the_drain_task_never_moves() {
    let layer = LoadLevelLayer::new(10, 1);
    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let only = runtime();
    only.block_on(async {
        let running = service.call(0);
        let waits = service.call(1);
        // The clock goes on while the drain task has been woken and has not run.
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        settle().await;
        let tasks = runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 2, "a call and the drain task");
        gate.finish_all();
        running.await.expect("answered");
        waits.await.expect("answered");
    });
}

#[test]
fn a_busy_pair_of_runtimes_answers_everything() {
    // With real clocks. Each is driven only now and then.
    let real = || runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let layer = builder(1000, 2).execution(Execution::Spawn).build().expect("valid");
    let service = layer.layer(service_fn(|id: u32| async move {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(id)
    }));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (mut service, runtime) = (service.clone(), real());
            std::thread::spawn(move || {
                for round in 0..20 {
                    let calls: Vec<_> = runtime.block_on(async {
                        let calls: Vec<_> = (0..20).map(|id| service.call(id)).collect();
                        if round % 2 == 0 {
                            settle().await
                        }
                        calls
                    });
                    for call in calls {
                        let answer = runtime.block_on(async { timeout(WAIT, call).await });
                        answer.expect("should be served").expect("answered");
                    }
                }
                // Kept: those who wait are refused when the runtime of the drain task dies.
                runtime
            })
        })
        .collect();
    let runtimes: Vec<_> =
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let stats = layer.handle().stats();
    assert_eq!((stats.succeeded, stats.queued, stats.in_flight), (800, 0, 0));
    drop(runtimes);
}
