//! Where calls are made and run, and what frees their slots.

use super::*;

#[test]
fn a_call_given_up_frees_its_slot_at_once_although_its_runtime_is_not_driven() {
    for queued in [false, true] {
        for outside in [false, true] {
            let layer = LoadLevelLayer::new(10, 1);
            let gate = Gate::new();
            let (handle, mut service) = (layer.handle(), layer.layer(gate.service()));
            let idle = runtime();
            let call = idle.block_on(async {
                if queued {
                    handle.pause();
                }
                let mut call = Box::pin(service.call(0));
                handle.resume();
                settle().await;
                let gone = timeout(Duration::from_millis(20), &mut call).await;
                assert!(gone.is_err(), "it runs");
                if outside { Some(call) } else { None }
            });
            drop(call);
            assert_eq!(handle.stats().in_flight, 0, "queued: {queued}, outside: {outside}");
            assert_eq!((gate.dropped(), handle.stats().cancelled), (vec![0], 1));
            let driven = runtime();
            gate.finish_all();
            soon(&driven, service.call(1)).expect("answered");
            // Nothing is left of the first one, once its runtime is driven again.
            idle.block_on(settle());
            let tasks = idle.handle().metrics().num_alive_tasks();
            assert!(tasks <= 1, "{tasks} tasks, and the drain task is one");
        }
    }
}

#[test]
fn a_call_given_up_before_its_task_has_run_frees_its_slot_at_once() {
    for queued in [false, true] {
        let layer = LoadLevelLayer::new(10, 1);
        let gate = Gate::new();
        let (handle, mut service) = (layer.handle(), layer.layer(gate.service()));
        let idle = runtime();
        let call = {
            let _entered = idle.enter();
            if queued {
                handle.pause();
            }
            service.call(0)
        };
        handle.resume();
        let driven = runtime();
        if queued {
            // A call of another runtime makes the drain task run.
            let _entered = driven.enter();
            drop(service.call(1));
            driven.block_on(sleep(Duration::from_millis(200)));
        }
        assert_eq!((gate.called(), handle.stats().in_flight), (vec![0], 1));
        drop(call);
        assert_eq!((gate.dropped(), handle.stats().in_flight), (vec![0], 0));
        idle.block_on(settle());
        assert_eq!(gate.dropped(), [0]);
    }
}

#[test]
fn dropping_the_work_of_a_call_outside_of_a_runtime_may_use_the_runtime() {
    struct Spawns(Arc<AtomicUsize>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let done = Arc::clone(&self.0);
            tokio::spawn(async move { done.fetch_add(1, SeqCst) });
        }
    }
    let done = Arc::new(AtomicUsize::new(0));
    let layer = LoadLevelLayer::new(10, 1);
    let mut service = layer.layer(service_fn({
        let done = Arc::clone(&done);
        move |()| {
            let spawns = Spawns(Arc::clone(&done));
            async move {
                let _spawns = spawns;
                std::future::pending::<Result<(), BoxError>>().await
            }
        }
    }));
    let idle = runtime();
    let call = idle.block_on(async {
        let call = service.call(());
        settle().await;
        call
    });
    drop(call);
    assert_eq!(layer.handle().stats().in_flight, 0);
    idle.block_on(settle());
    assert_eq!(done.load(SeqCst), 1);
}

#[test]
fn under_finish_the_slot_comes_home_when_the_work_has_ended() {
    let layer = builder(10, 1).abandon(Abandon::Finish).build().expect("valid");
    let gate = Gate::new();
    let (handle, mut service) = (layer.handle(), layer.layer(gate.service()));
    let idle = runtime();
    idle.block_on(async {
        let gone = timeout(Duration::from_millis(20), service.call(0)).await;
        assert!(gone.is_err(), "it runs");
    });
    assert_eq!(handle.stats().in_flight, 1);
    gate.finish_all();
    assert_eq!(handle.stats().in_flight, 1, "its runtime is not driven");
    idle.block_on(settle());
    assert_eq!((handle.stats().in_flight, gate.finished()), (0, vec![0]));
}

#[test]
fn a_queued_call_is_made_and_runs_on_the_runtime_of_its_caller() {
    let layer = LoadLevelLayer::new(10, 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let here = || runtime::Handle::current().id();
    let mut service = layer.layer(service_fn({
        let seen = Arc::clone(&seen);
        move |id: u32| {
            let (seen, called) = (Arc::clone(&seen), here());
            async move {
                tokio::task::yield_now().await;
                seen.lock().expect("whole").push((id, called, here()));
                Ok::<_, BoxError>(())
            }
        }
    }));
    let (first, second) = (runtime(), runtime());
    soon(&first, service.call(0)).expect("answered");
    let handle = layer.handle();
    handle.pause();
    let call = {
        let _entered = second.enter();
        service.call(1)
    };
    handle.resume();
    // The drain task lives on the first one.
    first.block_on(settle());
    soon(&second, call).expect("answered");
    let (first, second) = (first.handle().id(), second.handle().id());
    assert_eq!(*seen.lock().expect("whole"), [(0, first, first), (1, second, second)]);
}

#[test]
fn a_timer_made_in_call_goes_by_the_runtime_of_the_caller() {
    for execution in EXECUTIONS {
        let layer = builder(10, 1).execution(execution).build().expect("valid");
        let mut service = layer.layer(service_fn(|()| {
            let timer = sleep(Duration::from_millis(20));
            async move {
                timer.await;
                Ok::<_, BoxError>(())
            }
        }));
        let (idle, driven) = (runtime(), runtime());
        soon(&idle, service.call(())).expect("answered");
        layer.handle().pause();
        let call = {
            let _entered = driven.enter();
            service.call(())
        };
        layer.handle().resume();
        idle.block_on(settle());
        assert_eq!(layer.handle().stats().in_flight, 1, "called by the drain task");
        soon(&driven, call).expect("answered");
    }
}

#[test]
fn a_builders_runtime_keeps_drain_task_and_calls() {
    let server = runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let layer = builder(10, 1).runtime(server.handle().clone()).build().expect("valid");
    let here = || runtime::Handle::current().id();
    let mut service = layer.layer(service_fn(move |()| async move {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(here())
    }));
    let ids = runtime().block_on(async {
        let calls: Vec<_> = (0..5).map(|_| service.call(())).collect();
        let mut ids = Vec::new();
        for call in calls {
            ids.push(call.await.expect("answered"));
        }
        ids
    });
    assert_eq!(ids, [server.handle().id(); 5]);
}
