//! Callers: they wait, give up, come in bursts, and keep what they should not.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceExt};
use tower_load_leveling::error::{Reason, Rejected, ServiceError};

use crate::{
    args::Plant,
    inner::{Inner, Meant, Request, Task},
    plan::End,
    rng::Rng,
    world::{Leveled, World},
};

type Call = <Leveled as Service<Request>>::Future;

/// A caller, with what it has not told the world yet.
pub(crate) struct Caller {
    world: Arc<World>,
    rng: Rng,
    service: Leveled,
    /// Services that were polled, and are not polled again.
    asleep: Vec<Leveled>,
    calls: u64,
    successes: u64,
}

impl Caller {
    pub(crate) fn new(world: &Arc<World>, name: impl std::hash::Hash) -> Self {
        let mut rng = Rng::new((world.plan.seed, world.plan.round, name));
        let service = world.services[rng.below(3) as usize].clone();
        world.callers.fetch_add(1, SeqCst);
        Self { world: Arc::clone(world), rng, service, asleep: Vec::new(), calls: 0, successes: 0 }
    }

    /// Goes on until the round is over.
    pub(crate) async fn run(mut self) {
        while !self.world.is_over() {
            self.step().await;
        }
    }

    /// Makes some calls, of which none is left afterwards.
    pub(crate) async fn step(&mut self) {
        let step = AssertUnwindSafe(self.do_something()).catch_unwind().await;
        let plan = &self.world.plan;
        if let Err(panic) = step {
            let is_meant = panic.is::<Meant>() && (plan.has_panics || plan.has_rough_subscriber);
            if !is_meant {
                self.world.fault("law 10: a panic that nobody meant");
            }
        }
    }

    async fn do_something(&mut self) {
        if self.world.plant == Some(Plant::Hang) && self.rng.one_in(1000) {
            let class = tower_load_leveling::Class::new();
            let call = self.service.call(Request::new(&self.world.seen, Task::Forever, class));
            drop(call.await);
        }
        match self.rng.below(100) {
            0..50 => {
                let call = self.call(false);
                self.end(call).await;
            }
            50..60 => self.give_up_after(1).await,
            60..65 => self.give_up_after(0).await,
            65..72 => {
                let polls = 2 + self.rng.below(6);
                self.give_up_after(polls).await;
            }
            72..75 => {
                let time = Duration::from_micros(self.rng.below(1500));
                let call = self.call(true);
                if let Ok(result) = timeout(time, call).await {
                    self.note(result);
                }
            }
            75..85 => self.burst().await,
            85..88 => {
                let request = self.world.request(&mut self.rng, false);
                self.calls += 1;
                match self.service.try_call(request) {
                    Ok(call) => self.end(call).await,
                    Err(refused) => drop(refused.into_request()),
                }
            }
            88..95 => self.ready().await,
            95..97 => {
                let mut service = self.service.clone();
                let polled = poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_pending())).await;
                // A service that is ready has a place by right, until it is dropped.
                if polled && self.asleep.len() < 4 {
                    self.asleep.push(service);
                }
            }
            97 => self.asleep.clear(),
            98 => self.service = self.world.services[self.rng.below(3) as usize].clone(),
            _ if self.rng.one_in(5) => {
                tokio::time::sleep(Duration::from_micros(self.rng.below(500))).await;
            }
            _ => tokio::task::yield_now().await,
        }
    }

    fn call(&mut self, gives_up: bool) -> Call {
        let request = self.world.request(&mut self.rng, gives_up);
        self.calls += 1;
        self.plant();
        self.service.call(request)
    }

    async fn end(&mut self, call: Call) {
        let result = call.await;
        self.note(result);
    }

    async fn give_up_after(&mut self, polls: u64) {
        let mut call = Box::pin(self.call(true));
        for _ in 0..polls {
            if let Some(result) = poll_fn(|cx| Poll::Ready(poll_once(&mut call, cx))).await {
                self.note(result);
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Makes calls without a yield between them, drops some, and waits for the rest.
    async fn burst(&mut self) {
        let count = 1 + self.rng.below(12);
        let mut calls: Vec<_> = (0..count).map(|_| Box::pin(self.call(false))).collect();
        for _ in 0..self.rng.below(3) {
            calls.pop();
        }
        // All at once: under `Execution::Caller` a call that is not polled keeps its slot.
        let mut calls: FuturesUnordered<_> = calls.into_iter().collect();
        while let Some(result) = calls.next().await {
            self.note(result);
        }
    }

    async fn ready(&mut self) {
        let time = Duration::from_micros(self.rng.below(2000));
        let mut service = self.service.clone();
        match timeout(time, service.ready()).await {
            Ok(Ok(_)) if self.rng.one_in(4) => {}
            Ok(Ok(_)) => {
                let request = self.world.request(&mut self.rng, false);
                self.calls += 1;
                let call = service.call(request);
                self.end(call).await;
            }
            Ok(Err(error)) => self.note(Err(error)),
            Err(_) => {}
        }
    }

    fn note(&mut self, result: Result<(), BoxError>) {
        match result {
            Ok(()) => self.successes += 1,
            Err(error) if is_nested(&error) => {
                self.world.fault("law 1: a call from outside is refused as nested");
            }
            Err(error) if error.is::<Rejected>() || error.is::<ServiceError>() => {}
            Err(error) if error.to_string().starts_with("the inner ") => {}
            Err(error) => self.world.fault(&format!("law 1: an error that nobody made: {error}")),
        }
    }

    /// Makes the fault that was asked for, once in a while.
    fn plant(&mut self) {
        let Some(plant) = self.world.plant else { return };
        if self.world.plan.end != End::Rest || !self.rng.one_in(1000) {
            return;
        }
        let (world, rng) = (&self.world, Rng::new(1));
        let request = |task| Request::new(&world.seen, task, tower_load_leveling::Class::new());
        match plant {
            Plant::Slot => {
                let mut call = Box::pin(self.service.call(request(Task::Forever)));
                let _ = poll_once(&mut call, &mut Context::from_waker(Waker::noop()));
                std::mem::forget(call);
            }
            Plant::Limit => {
                let mut inner = Inner::new(&world.seen, rng, false);
                let calls = (0..=world.plan.highest).map(|_| inner.call(request(Task::Forever)));
                drop(calls.collect::<Vec<_>>());
            }
            Plant::Bound => {
                let mut service = self.service.clone();
                let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
                std::mem::forget(service);
            }
            Plant::Hang | Plant::Memory => {}
        }
    }
}

fn is_nested(error: &BoxError) -> bool {
    error.downcast_ref::<Rejected>().is_some_and(|rejected| rejected.reason() == Reason::Nested)
}

fn poll_once(call: &mut Pin<Box<Call>>, cx: &mut Context<'_>) -> Option<Result<(), BoxError>> {
    match call.as_mut().poll(cx) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.world.calls.fetch_add(self.calls, SeqCst);
        self.world.successes.fetch_add(self.successes, SeqCst);
        self.world.callers.fetch_sub(1, SeqCst);
    }
}
