//! Under `Execution::Spawn`, a task that has ended a direct call may take the next direct call.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{builder, settle};
use tokio::{
    runtime::{self, Handle, Runtime},
    sync::Barrier,
    task::{Id, id},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    LoadLevel,
    error::{Rejected, ServiceError},
};

/// A runtime on this thread, driven while it is entered by `block_on` only. `block_on` ends as soon
/// as its future does: a task that was idle then stays so.
fn runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).event_interval(1).build().expect("a runtime")
}

/// Runs a test in a task: what waits in `block_on` itself is polled after all tasks that can run.
async fn in_a_task(test: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(test).await.expect("no panic");
}

/// Comes back once, and answers with the task that polled it.
async fn whose(_: ()) -> Result<Id, BoxError> {
    tokio::task::yield_now().await;
    Ok(id())
}

/// A service of a limit that nobody reaches.
fn service()
-> LoadLevel<impl Service<(), Response = Id, Error = BoxError, Future: Send> + Send + 'static> {
    builder(100, 100).build().expect("valid").layer(service_fn(whose))
}

/// Makes calls one after the other, in a task. Returns the tasks that ran them, each once.
async fn one_by_one<S>(service: &S, calls: usize) -> Vec<Id>
where
    S: Service<(), Response = Id, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let mut service = service.clone();
    let calls = tokio::spawn(async move {
        let mut tasks = Vec::new();
        for _ in 0..calls {
            tasks.push(service.call(()).await.expect("served"));
        }
        tasks.dedup();
        tasks
    });
    calls.await.expect("no panic")
}

/// The number of tasks.
fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_a_direct_call_takes_the_next() {
    let service = service();
    // Whatever calls of other tests have taught the thread.
    one_by_one(&service, 200).await;
    let tasks = one_by_one(&service, 100).await;
    assert_eq!(tasks.len(), 1, "{tasks:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_have_a_task_each() {
    const CALLS: usize = 10;
    // Answers once all calls run: a call given to a busy task would hang.
    let inner = |barrier: Arc<Barrier>| async move {
        barrier.wait().await;
        Ok::<_, BoxError>(id())
    };
    let mut service = builder(100, 100).build().expect("valid").layer(service_fn(inner));
    in_a_task(async move {
        for _ in 0..20 {
            let barrier = Arc::new(Barrier::new(CALLS));
            let calls: Vec<_> = (0..CALLS).map(|_| service.call(Arc::clone(&barrier))).collect();
            let mut tasks = Vec::new();
            for call in calls {
                tasks.push(call.await.expect("served").to_string());
            }
            tasks.sort();
            tasks.dedup();
            assert_eq!(tasks.len(), CALLS);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_is_not_given_to_the_task_that_awaits_it() {
    let itself: Arc<Mutex<Option<LoadLevel<_, _>>>> = Arc::default();
    let again = Arc::clone(&itself);
    let layer = builder(100, 100).build().expect("valid");
    let inner = tower::util::BoxCloneSyncService::new(service_fn(move |depth: u32| {
        let again: Arc<Mutex<Option<LoadLevel<_>>>> = Arc::clone(&again);
        async move {
            tokio::task::yield_now().await;
            if depth > 0 {
                let call = {
                    let mut again = again.lock().expect("no panic");
                    again.as_mut().expect("there").call(depth - 1)
                };
                call.await?;
            }
            Ok::<_, BoxError>(())
        }
    }));
    let mut service: LoadLevel<tower::util::BoxCloneSyncService<u32, (), BoxError>> =
        layer.layer(inner);
    *itself.lock().expect("no panic") = Some(service.clone());
    in_a_task(async move {
        for _ in 0..20 {
            service.call(5).await.expect("served");
        }
    })
    .await;
    itself.lock().expect("no panic").take();
}

#[tokio::test(start_paused = true)]
async fn after_a_burst_no_task_is_left() {
    let mut service = service();
    for _ in 0..5 {
        let calls: Vec<_> = (0..100).map(|_| service.call(())).collect();
        for call in calls {
            call.await.expect("served");
        }
    }
    settle().await;
    assert!(alive() <= 1, "the drain task");
}

#[tokio::test(start_paused = true)]
async fn where_calls_do_not_follow_each_other_most_tasks_end_at_once() {
    let service = service();
    let mut scattered = service.clone();
    in_a_task(async move {
        let mut idle = 0;
        for _ in 0..200 {
            scattered.call(()).await.expect("served");
            let before = alive();
            settle().await;
            idle += before - alive();
        }
        assert!((1..=40).contains(&idle), "{idle} were idle");
    })
    .await;
    // Once calls follow each other again, tasks take the next.
    let tasks = one_by_one(&service, 200).await;
    assert!(tasks.len() < 100, "{} tasks", tasks.len());
}

#[test]
fn a_call_given_to_a_task_whose_runtime_dies_is_answered() {
    let service = service();
    let dying = runtime();
    let mut call = {
        let mut service = service.clone();
        // The last thing it does is to take the answer: the task is idle then.
        dying.block_on(async { service.call(()).await }).expect("served");
        let _entered = dying.enter();
        Box::pin(service.call(()))
    };
    let served = runtime();
    served.block_on(async {
        tokio::time::timeout(Duration::from_secs(1), &mut call).await.expect_err("not driven");
    });
    drop(dying);
    let error = served.block_on(call).expect_err("its runtime has died");
    assert!(error.is::<ServiceError>() && !error.is::<Rejected>(), "{error}");
    assert_eq!(service.handle().stats().in_flight, 0);
}

#[test]
fn a_call_runs_on_the_runtime_of_its_caller_although_others_have_idle_tasks() {
    let mut service = service();
    let (undriven, other) = (runtime(), runtime());
    undriven.block_on(async { service.call(()).await }).expect("served");
    other.block_on(async {
        let call = tokio::time::timeout(Duration::from_secs(1), service.call(()));
        call.await.expect("nobody has to drive the other runtime").expect("served");
    });
    drop(undriven);
    other.block_on(async { service.call(()).await }).expect("served");
}

#[test]
fn an_idle_task_keeps_nothing_alive() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let inner = service_fn(move |()| {
        let held = Arc::clone(&held);
        async move {
            tokio::task::yield_now().await;
            drop(held);
            Ok::<_, BoxError>(())
        }
    });
    let layer = builder(10, 10).build().expect("valid");
    let mut service = layer.layer(inner);
    let runtime = runtime();
    runtime.block_on(async { service.call(()).await }).expect("served");
    drop((service, layer));
    assert_eq!(Arc::strong_count(&token), 1, "the runtime is not driven any more");
}
