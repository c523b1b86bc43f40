//! Laws 14 and 18: what surrounds the inner's code is its own caller's, and nobody else's.

mod support;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use support::{EXECUTIONS, builder, settle};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::Execution;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber,
    span,
};

/// A subscriber that keeps the numbers of events with the target `inner`.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u64>>>);

impl Heard {
    fn all(&self) -> Vec<u64> {
        let mut all = self.0.lock().expect("whole").clone();
        all.sort_unstable();
        all
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "inner"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Id<'a>(&'a Heard);
        impl Visit for Id<'_> {
            fn record_u64(&mut self, _: &Field, id: u64) {
                self.0.0.lock().expect("whole").push(id);
            }
            fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
        }
        event.record(&mut Id(self));
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Says its number in `poll_ready` never, in `call`, in the first poll and in the last.
async fn says(id: u64) -> Result<u64, BoxError> {
    tracing::info!(target: "inner", id);
    tokio::task::yield_now().await;
    tracing::info!(target: "inner", id);
    Ok(id)
}

fn inner() -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(|id: u64| {
        tracing::info!(target: "inner", id);
        says(id)
    })
}

#[tokio::test]
async fn events_of_the_inner_reach_the_dispatcher_of_the_caller_if_asked_for() {
    for execution in EXECUTIONS {
        for queued in [false, true] {
            let layer = builder(10, 1).execution(execution).carry_dispatcher().build();
            let layer = layer.expect("valid");
            let service = layer.layer(inner());
            let heard = [Heard::default(), Heard::default()];
            if queued {
                layer.handle().pause();
            }
            let calls: Vec<_> = [0, 1]
                .map(|caller| {
                    let mut service = service.clone();
                    let call = async move {
                        for round in 0..2 {
                            service.call(caller * 10 + round).await.expect("answered");
                        }
                    };
                    tokio::spawn(call.with_subscriber(heard[caller as usize].clone()))
                })
                .into();
            settle().await;
            layer.handle().resume();
            for call in calls {
                call.await.expect("no panic");
            }
            assert_eq!(heard[0].all(), [0, 0, 0, 1, 1, 1], "{execution:?}, queued: {queued}");
            assert_eq!(heard[1].all(), [10, 10, 10, 11, 11, 11], "{execution:?}, {queued}");
        }
    }
}

#[tokio::test]
async fn the_dispatcher_of_a_caller_is_never_seen_in_the_call_of_another() {
    for execution in EXECUTIONS {
        for carried in [false, true] {
            let builder = builder(10, 1).execution(execution);
            let builder = if carried { builder.carry_dispatcher() } else { builder };
            let layer = builder.build().expect("valid");
            let service = layer.layer(inner());
            let heard = [Heard::default(), Heard::default(), Heard::default()];
            // Some run directly, and end calls for which others wait. All wait for each other.
            let calls: Vec<_> = (0..30)
                .map(|id: u64| {
                    let mut service = service.clone();
                    let call = async move { service.call(id).await.map(drop) };
                    let call = async move {
                        // In the end a queue stands, and a call ends another's wait.
                        drop(call.await);
                    };
                    tokio::spawn(call.with_subscriber(heard[(id % 3) as usize].clone()))
                })
                .collect();
            for call in calls {
                call.await.expect("no panic");
            }
            for (caller, heard) in heard.iter().enumerate() {
                let strange = heard.all().into_iter().find(|id| id % 3 != caller as u64);
                assert_eq!(strange, None, "{execution:?}, carried: {carried}, heard by {caller}");
            }
        }
    }
}

tokio::task_local! {
    static CALLER: u64;
}

#[tokio::test]
async fn task_locals_of_a_caller_are_never_seen_in_the_call_of_another() {
    for execution in [Execution::Spawn, Execution::Caller] {
        let layer = builder(100, 2).execution(execution).build().expect("valid");
        let service = layer.layer(service_fn(|id: u64| {
            let in_call = CALLER.try_with(|caller| *caller).ok();
            async move {
                let in_poll = CALLER.try_with(|caller| *caller).ok();
                tokio::task::yield_now().await;
                let later = CALLER.try_with(|caller| *caller).ok();
                Ok::<_, BoxError>((id, [in_call, in_poll, later]))
            }
        }));
        let calls: Vec<_> = (0..50)
            .map(|id: u64| {
                let mut service = service.clone();
                tokio::spawn(CALLER.scope(id, async move { service.call(id).await }))
            })
            .collect();
        for call in calls {
            let (id, seen) = call.await.expect("no panic").expect("answered");
            let strange = seen.into_iter().flatten().find(|caller| *caller != id);
            assert_eq!(strange, None, "{execution:?}");
        }
    }
}
