//! Laws 1, 2, 3, 5, 6 and 12 under random play: call, drop while queued or running, inner error and
//! panic, limit and capacity up and down, pause, resume, close, time, in any order, checked step by
//! step against a small model that knows nothing of how the layer works.

mod support;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use support::{
    EXECUTIONS, builder,
    gate::{Door, Failed, Gate, Told},
    settle,
};
use tokio::task::JoinHandle;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    Execution, Handle, LoadLevelLayer,
    error::{Reason, Rejected},
};

const MAX_WAIT: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Op {
    Call,
    /// Drop the call of one that waits or runs: the n-th, counted round.
    Drop(usize),
    /// End one that runs.
    End(usize, End),
    Limit(usize),
    Capacity(usize),
    Pause,
    Resume,
    AbortQueued,
    /// The inner becomes unready, or ready again.
    Shut,
    Open,
    Pass(u64),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ok,
    Err,
    Panic,
}

/// How a call ended, for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ended(End),
    Rejected(Reason),
    Dropped,
}

fn op() -> impl Strategy<Value = Op> {
    let end = prop_oneof![4 => Just(End::Ok), 1 => Just(End::Err), 1 => Just(End::Panic)];
    prop_oneof![
        12 => Just(Op::Call),
        8 => any::<usize>().prop_map(Op::Drop),
        8 => (any::<usize>(), end).prop_map(|(nth, end)| Op::End(nth, end)),
        2 => (1..5usize).prop_map(Op::Limit),
        2 => (0..5usize).prop_map(Op::Capacity),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        1 => Just(Op::AbortQueued),
        4 => Just(Op::Shut),
        4 => Just(Op::Open),
        2 => (1..80u64).prop_map(Op::Pass),
        1 => Just(Op::Close),
    ]
}

/// What should be the case, by the laws alone.
#[derive(Debug)]
struct Model {
    limit: usize,
    capacity: usize,
    paused: bool,
    closed: bool,
    ready: bool,
    now: Duration,
    /// Each with the time at which it is late.
    queue: VecDeque<(u32, Duration)>,
    running: Vec<u32>,
    called: Vec<u32>,
    answers: BTreeMap<u32, Answer>,
    admitted: u64,
}

impl Model {
    fn new(capacity: usize, limit: usize) -> Self {
        Self {
            limit,
            capacity,
            paused: false,
            closed: false,
            ready: true,
            now: Duration::ZERO,
            queue: VecDeque::new(),
            running: Vec::new(),
            called: Vec::new(),
            answers: BTreeMap::new(),
            admitted: 0,
        }
    }

    fn call(&mut self, id: u32) {
        let refused = if self.closed {
            Some(Reason::Closed)
        } else if self.queue.len() + self.running.len() >= self.capacity + self.limit {
            Some(Reason::Full)
        } else {
            None
        };
        match refused {
            Some(reason) => drop(self.answers.insert(id, Answer::Rejected(reason))),
            None => {
                self.admitted += 1;
                self.queue.push_back((id, self.now + MAX_WAIT));
            }
        }
    }

    fn leave(&mut self, id: u32, answer: Answer) {
        self.queue.retain(|(queued, _)| *queued != id);
        self.running.retain(|running| *running != id);
        self.answers.insert(id, answer);
    }

    fn remove_queued(&mut self, reason: Reason, which: impl Fn(Duration) -> bool) {
        let gone: Vec<_> = self.queue.iter().filter(|(_, late)| which(*late)).copied().collect();
        gone.iter().for_each(|(id, _)| self.leave(*id, Answer::Rejected(reason)));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.remove_queued(Reason::MaxWait, |late| late <= now);
    }

    /// Those who fit run, oldest first.
    fn dispatch(&mut self) {
        while self.ready && !self.paused && self.running.len() < self.limit {
            let Some((id, _)) = self.queue.pop_front() else { return };
            self.running.push(id);
            self.called.push(id);
        }
    }

    fn live(&self) -> Vec<u32> {
        self.queue.iter().map(|(id, _)| *id).chain(self.running.iter().copied()).collect()
    }
}

/// The layer, driven by the same operations.
struct Real {
    gate: Gate,
    door: Door,
    handle: Handle,
    service: tower_load_leveling::LoadLevel<
        support::gate::GateService,
        tower_load_leveling::Unclassified,
        tower_load_leveling::ByResult,
    >,
    calls: BTreeMap<u32, JoinHandle<Result<u32, BoxError>>>,
    answers: BTreeMap<u32, Answer>,
}

impl Real {
    fn new(layer: &LoadLevelLayer) -> Self {
        let (gate, door) = (Gate::new(), Door::default());
        Self {
            handle: layer.handle(),
            service: layer.layer(gate.service_behind(&door)),
            gate,
            door,
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    async fn collect(&mut self) {
        let ended: Vec<_> =
            self.calls.iter().filter(|call| call.1.is_finished()).map(|call| *call.0).collect();
        for id in ended {
            let Some(call) = self.calls.remove(&id) else { continue };
            let answer = match call.await {
                Ok(Ok(_)) => Answer::Ended(End::Ok),
                Ok(Err(error)) => match error.downcast_ref::<Rejected>() {
                    Some(rejected) => Answer::Rejected(rejected.reason()),
                    None if error.is::<Failed>() => Answer::Ended(End::Err),
                    None => panic!("request {id} was answered with an unknown error: {error}"),
                },
                Err(error) if error.is_panic() => Answer::Ended(End::Panic),
                Err(_) => Answer::Dropped,
            };
            assert!(self.answers.insert(id, answer).is_none(), "{id} was answered twice");
        }
    }
}

fn pick(from: &[u32], nth: usize) -> Option<u32> {
    from.get(nth.checked_rem(from.len())?).copied()
}

async fn play(execution: Execution, capacity: usize, limit: usize, ops: Vec<Op>) {
    let layer =
        builder(capacity, limit).execution(execution).max_wait(MAX_WAIT).build().expect("valid");
    let mut model = Model::new(capacity, limit);
    let mut real = Real::new(&layer);
    let ops = ops.into_iter().map(Some).chain([None]);
    for (id, op) in ops.enumerate() {
        let id = id as u32;
        match &op {
            Some(op) => step(op, id, &mut model, &mut real).await,
            None => finish(&mut model, &mut real).await,
        }
        model.dispatch();
        settle().await;
        real.collect().await;
        check(&model, &real, &op);
    }
    assert!(real.calls.is_empty(), "every call should be answered: {:?}", real.calls);
}

async fn step(op: &Op, id: u32, model: &mut Model, real: &mut Real) {
    match op {
        Op::Call => {
            model.call(id);
            real.calls.insert(id, tokio::spawn(real.service.call(id)));
        }
        Op::Drop(nth) => {
            if let Some(id) = pick(&model.live(), *nth) {
                model.leave(id, Answer::Dropped);
                real.calls[&id].abort();
            }
        }
        Op::End(nth, end) => {
            if let Some(id) = pick(&model.running, *nth) {
                model.leave(id, Answer::Ended(*end));
                let told = match end {
                    End::Ok => Told::Ok,
                    End::Err => Told::Err,
                    End::Panic => Told::Panic,
                };
                real.gate.end(id, told);
            }
        }
        Op::Limit(limit) => {
            model.limit = *limit;
            real.handle.set_limit(*limit).expect("valid");
        }
        Op::Capacity(capacity) => {
            model.capacity = *capacity;
            real.handle.set_capacity(*capacity);
        }
        Op::Pause => {
            model.paused = !model.closed;
            real.handle.pause();
        }
        Op::Resume => {
            model.paused = false;
            real.handle.resume();
        }
        Op::AbortQueued => {
            let queued = model.queue.len();
            model.remove_queued(Reason::Closed, |_| true);
            assert_eq!(real.handle.abort_queued(), queued);
        }
        Op::Shut => {
            model.ready = false;
            real.door.close_quietly();
        }
        Op::Open => {
            model.ready = true;
            real.door.open_for_the_last();
        }
        Op::Pass(ms) => {
            model.pass(Duration::from_millis(*ms));
            tokio::time::advance(Duration::from_millis(*ms)).await;
        }
        Op::Close => {
            (model.closed, model.paused) = (true, false);
            real.handle.close();
        }
    }
}

/// Lets everything come to its end.
async fn finish(model: &mut Model, real: &mut Real) {
    (model.paused, model.ready) = (false, true);
    real.door.open_for_the_last();
    real.handle.resume();
    while !model.live().is_empty() {
        model.dispatch();
        settle().await;
        for id in std::mem::take(&mut model.running) {
            model.answers.insert(id, Answer::Ended(End::Ok));
            real.gate.finish(id);
        }
        settle().await;
    }
}

fn check(model: &Model, real: &Real, after: &Option<Op>) {
    let stats = real.handle.stats();
    assert_eq!(real.answers, model.answers, "answers after {after:?}");
    assert_eq!(real.gate.called(), model.called, "calls after {after:?}");
    assert_eq!(real.gate.running(), model.running.len(), "running after {after:?}");
    assert_eq!(stats.in_flight, model.running.len(), "in flight after {after:?}");
    assert_eq!(stats.queued, model.queue.len(), "queued after {after:?}");
    assert_eq!(stats.admitted, model.admitted, "admitted after {after:?}");
    let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
    let sum = ended + stats.removed.total() + (stats.queued + stats.in_flight) as u64;
    assert_eq!(stats.admitted, sum, "the books should balance after {after:?}: {stats:?}");
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig {
        // More by `PROPTEST_CASES`.
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_layer_does_what_the_model_says(
        capacity in 0..4usize,
        limit in 1..4usize,
        ops in prop::collection::vec(op(), 1..80),
    ) {
        silence_told_panics();
        for execution in EXECUTIONS {
            paused_runtime().block_on(play(execution, capacity, limit, ops.clone()));
        }
    }

    /// The same operations without letting anything run in between, on several threads: no exact
    /// model is possible, but the laws hold.
    #[test]
    fn the_laws_hold_when_everything_happens_at_once(
        capacity in 0..20usize,
        limit in 1..5usize,
        drops in prop::collection::vec(any::<bool>(), 200),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .expect("a runtime");
        for execution in EXECUTIONS {
            runtime.block_on(at_once(execution, capacity, limit, &drops));
        }
    }
}

async fn at_once(execution: Execution, capacity: usize, limit: usize, drops: &[bool]) {
    let layer = builder(capacity, limit).execution(execution).build().expect("valid");
    let gate = Gate::open();
    let service = layer.layer(gate.service());
    let calls: Vec<_> = drops
        .iter()
        .enumerate()
        .map(|(id, drop_it)| {
            let (mut service, drop_it) = (service.clone(), *drop_it);
            tokio::spawn(async move {
                let call = service.call(id as u32);
                if drop_it {
                    tokio::select! {
                        biased;
                        () = tokio::task::yield_now() => None,
                        answer = call => Some(answer),
                    }
                } else {
                    Some(call.await)
                }
            })
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        if let Some(Err(error)) = call.await.expect("no panic") {
            assert!(error.is::<Rejected>(), "{error}");
            refused += 1;
        }
    }
    layer.handle().idle().await;
    let stats = layer.handle().stats();
    assert!(gate.peak() <= limit, "{} ran at once, the limit is {limit}", gate.peak());
    assert_eq!((stats.queued, stats.in_flight, gate.running()), (0, 0, 0));
    assert_eq!(stats.admitted, stats.succeeded + stats.cancelled, "{stats:?}");
    assert!(stats.refused.total() >= refused);
    // No place was lost: as many are admitted in one go as ever.
    layer.handle().pause();
    let mut service = service;
    let places: Vec<_> = (0..capacity + limit + 1).map(|id| service.try_call(id as u32)).collect();
    assert_eq!(places.iter().filter(|place| place.is_ok()).count(), capacity + limit);
}

/// The panics that calls are told to end with are no news.
fn silence_told_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let told = info.payload().downcast_ref::<String>();
            if !told.is_some_and(|text| text.starts_with("the future of")) {
                hook(info);
            }
        }));
    });
}
