//! The laws, under random play with classes: priority, flow, cost and deadline, in any order of
//! service, with an inner that is not always ready.
//!
//! Who goes next is checked against a reference in `src/queue/tests`. Here a few things are checked
//! step by step that hold whoever goes next.

mod support;

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use support::{
    EXECUTIONS, builder,
    gate::{Door, Gate, GateService, Told},
    settle,
};
use tokio::{task::JoinHandle, time::Instant};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    ByResult, Class, Execution, Handle, LoadLevel, Order, Overflow, Priority, error::Rejected,
};

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
struct Ask {
    priority: usize,
    flow: Option<u8>,
    weight: u32,
    cost: u32,
    deadline: Option<u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Call(Ask),
    /// Drop the call of one that waits or runs: the n-th, counted round.
    Drop(usize),
    /// End one that runs.
    End(usize, bool),
    Limit(usize),
    FlowLimit(Option<usize>),
    Pause,
    Resume,
    Shut,
    Open,
    Pass(u64),
}

fn ask() -> impl Strategy<Value = Ask> {
    let flow = prop_oneof![Just(None), (0..4u8).prop_map(Some)];
    let deadline = prop_oneof![2 => Just(None), 1 => (1..100u64).prop_map(Some)];
    let cost = prop_oneof![4 => Just(1), 2 => 2..4u32];
    let weight = prop_oneof![2 => Just(1), 1 => 0..6u32, 1 => Just(1000)];
    let all = (0..5usize, flow, weight, cost, deadline);
    all.prop_map(|(priority, flow, weight, cost, deadline)| Ask {
        priority,
        flow,
        weight,
        cost,
        deadline,
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        14 => ask().prop_map(Op::Call),
        4 => any::<usize>().prop_map(Op::Drop),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(nth, ok)| Op::End(nth, ok)),
        1 => (1..6usize).prop_map(Op::Limit),
        1 => prop::option::of(1..4usize).prop_map(Op::FlowLimit),
        1 => Just(Op::Pause),
        3 => Just(Op::Resume),
        2 => Just(Op::Shut),
        4 => Just(Op::Open),
        3 => (1..40u64).prop_map(Op::Pass),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Fifo), Just(Order::Lifo), Just(Order::AdaptiveLifo)]
}

/// What is known of a request that was called and has not been answered.
#[derive(Debug)]
struct Live {
    call: JoinHandle<Result<u32, BoxError>>,
    /// Places that it has, and slots when it runs.
    weight: usize,
    asked: usize,
    /// The slots taken at its dispatch: more than places if the limit was raised before.
    slots: usize,
    late: Option<Instant>,
    /// The flow, and the slots that count against the limit of flows: 0 if there was none.
    flow: Option<u8>,
    counts: usize,
}

struct Play {
    gate: Gate,
    door: Door,
    handle: Handle,
    service: LoadLevel<GateService, fn(&u32) -> Class, ByResult>,
    live: BTreeMap<u32, Live>,
    /// How many the inner has been called with so far.
    called: usize,
    capacity: usize,
    limit: usize,
    flow_limit: Option<usize>,
    is_paused: bool,
    is_shut: bool,
}

thread_local! {
    /// The classifier is a plain function, so that the type of the layer has a name.
    static ASKS: RefCell<BTreeMap<u32, Class>> = const { RefCell::new(BTreeMap::new()) };
}

fn classify(id: &u32) -> Class {
    ASKS.with_borrow(|asks| asks.get(id).cloned().unwrap_or_default())
}

impl Play {
    fn step(&mut self, op: &Op, id: u32) {
        match op {
            Op::Call(ask) => self.call(id, *ask),
            Op::Drop(nth) => {
                let ids: Vec<_> = self.live.keys().copied().collect();
                let Some(id) = pick(&ids, *nth) else { return };
                if let Some(live) = self.live.remove(&id) {
                    live.call.abort();
                }
            }
            Op::End(nth, ok) => {
                if let Some(id) = pick(&self.running(), *nth) {
                    self.live.remove(&id);
                    self.gate.end(id, if *ok { Told::Ok } else { Told::Err });
                }
            }
            Op::Limit(limit) => {
                self.limit = *limit;
                self.handle.set_limit(*limit).expect("valid");
            }
            Op::FlowLimit(limit) => {
                self.flow_limit = *limit;
                self.handle.set_flow_limit(*limit).expect("valid");
            }
            Op::Pause => {
                self.is_paused = true;
                self.handle.pause();
            }
            Op::Resume => {
                self.is_paused = false;
                self.handle.resume();
            }
            Op::Shut => {
                self.is_shut = true;
                self.door.close_quietly();
            }
            Op::Open => {
                self.is_shut = false;
                self.door.open_for_the_last();
            }
            Op::Pass(_) => {}
        }
    }

    fn call(&mut self, id: u32, ask: Ask) {
        let late = ask.deadline.map(|ms| Instant::now() + Duration::from_millis(ms));
        let mut class = Class::new().priority(Priority::ALL[ask.priority]).cost(ask.cost);
        class = class.weight(ask.weight);
        if let Some(flow) = ask.flow {
            class = class.flow(flow);
        }
        if let Some(late) = late {
            class = class.deadline(late);
        }
        ASKS.with_borrow_mut(|asks| asks.insert(id, class));
        let call = tokio::spawn(self.service.call(id));
        // One that costs more than the limit takes all there is.
        let weight = (ask.cost as usize).min(self.limit);
        let flow = ask.flow;
        self.live.insert(
            id,
            Live { call, weight, asked: ask.cost as usize, slots: 0, late, flow, counts: 0 },
        );
    }

    /// Those in the inner that nobody has ended yet.
    fn running(&self) -> Vec<u32> {
        let called = self.gate.called();
        self.live.keys().copied().filter(|id| called.contains(id)).collect()
    }

    /// Lets come of a step what comes, and looks at it.
    async fn settle(&mut self, after: &Op) {
        settle().await;
        self.collect().await;
        self.check(after);
    }

    async fn collect(&mut self) {
        let ended: Vec<_> =
            self.live.iter().filter(|live| live.1.call.is_finished()).map(|live| *live.0).collect();
        for id in ended {
            let Some(live) = self.live.remove(&id) else { continue };
            let error = live.call.await.expect("no panic").expect_err("nobody let it end");
            assert!(error.is::<Rejected>(), "{id}: {error}");
            assert!(!self.gate.called().contains(&id), "{id} was called, and then rejected");
        }
    }

    /// What holds after each step.
    fn check(&mut self, after: &Op) {
        let (now, called, running) = (Instant::now(), self.gate.called(), self.running());
        let waiting: Vec<_> =
            self.live.keys().copied().filter(|id| !running.contains(id)).collect();
        let stats = self.handle.stats();

        // Law 1. One that costs more than the limit, which was lowered meanwhile, runs alone.
        if called.len() > self.called {
            for id in &called[self.called..] {
                if let Some(live) = self.live.get_mut(id) {
                    live.weight = live.weight.min(self.limit);
                    live.slots = live.asked.min(self.limit);
                }
            }
            let slots: usize = running.iter().map(|id| self.live[id].weight).sum();
            assert!(slots <= self.limit, "{running:?} run, after {after:?}, limit {}", self.limit);
            self.check_flows(&called, after);
        }
        // No request is called twice, nor late.
        for id in &called[self.called..] {
            assert_eq!(called.iter().filter(|other| *other == id).count(), 1, "{id}");
            let late = self.live.get(id).and_then(|live| live.late);
            assert!(late.is_none_or(|late| late > now), "{id} was called late");
        }
        self.called = called.len();
        // Law 2: nothing waits beside an idle inner.
        let idles = running.is_empty() && !self.is_paused && !self.is_shut;
        assert!(!idles || waiting.is_empty(), "{waiting:?} wait for nothing, after {after:?}");
        if !self.is_paused && !self.is_shut {
            self.check_waiting(&waiting, &running, after);
        }
        // Whoever is late has been told, but for the resolution of timers.
        for id in &waiting {
            let late = self.live[id].late;
            let told = late.is_none_or(|late| late + Duration::from_millis(2) > now);
            assert!(told, "{id} waits and is late");
        }
        // The books balance.
        assert_eq!((stats.queued, stats.in_flight), (waiting.len(), running.len()), "{after:?}");
        let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
        let sum = ended + stats.removed.total() + (stats.queued + stats.in_flight) as u64;
        assert_eq!(stats.admitted, sum, "after {after:?}: {stats:?}");
        let priorities: Vec<_> =
            Priority::ALL.iter().map(|priority| stats.priority(*priority)).collect();
        assert_eq!(stats.queued, priorities.iter().map(|priority| priority.queued).sum::<usize>());
        assert_eq!(
            stats.admitted,
            priorities.iter().map(|priority| priority.admitted).sum::<u64>()
        );
        let removed: u64 = priorities.iter().map(|priority| priority.removed.total()).sum();
        assert_eq!(stats.removed.total(), removed);
    }

    /// A flow runs no more than its limit, unless that was lowered meanwhile.
    fn check_flows(&mut self, called: &[u32], after: &Op) {
        let Some(limit) = self.flow_limit else { return };
        for id in &called[self.called..] {
            let Some(flow) = self.live.get(id).and_then(|live| live.flow) else { continue };
            if let Some(live) = self.live.get_mut(id) {
                live.counts = live.asked.min(limit);
            }
            let slots: usize = self.slots_of(flow);
            assert!(slots <= limit, "flow {flow} has {slots} of {limit} slots, after {after:?}");
        }
    }

    fn slots_of(&self, flow: u8) -> usize {
        self.live.values().filter(|live| live.flow == Some(flow)).map(|live| live.counts).sum()
    }

    /// While slots are free, nothing waits but what needs more than are left, or whose flow does.
    fn check_waiting(&self, waiting: &[u32], running: &[u32], after: &Op) {
        let taken: usize = running.iter().map(|id| self.live[id].slots).sum();
        let free = self.limit.saturating_sub(taken);
        let heaviest = |ids: &mut dyn Iterator<Item = &Live>| ids.map(|live| live.asked).max();
        // A heavy request is not overtaken by those of its priority that it holds up.
        if free < heaviest(&mut waiting.iter().map(|id| &self.live[id])).unwrap_or(0) {
            return;
        }
        for id in waiting {
            let flow = self.live[id].flow;
            let is_full = flow.zip(self.flow_limit).is_some_and(|(flow, limit)| {
                let waiting = waiting.iter().map(|id| &self.live[id]);
                let most = heaviest(&mut waiting.filter(|live| live.flow == Some(flow)));
                self.slots_of(flow) + most.unwrap_or(0).min(limit) > limit
            });
            assert!(is_full, "{id} waits beside {free} free slots, after {after:?}");
        }
    }

    /// Law 3: so much may be held, unless the limit was lowered.
    fn check_bound(&self, most: usize) {
        let held: usize = self.live.values().map(|live| live.weight).sum();
        assert!(held <= most, "{held} of {most} places");
    }

    /// Lets everything come to its end.
    async fn finish(&mut self) {
        self.step(&Op::Open, 0);
        self.step(&Op::Resume, 0);
        while !self.live.is_empty() {
            settle().await;
            self.collect().await;
            let running = self.running();
            assert!(self.live.is_empty() || !running.is_empty(), "{:?} wait", self.live);
            for id in running {
                self.live.remove(&id);
                self.gate.finish(id);
            }
        }
        settle().await;
        // No place was lost.
        let free = self.capacity + self.limit;
        self.handle.pause();
        ASKS.with_borrow_mut(BTreeMap::clear);
        let _calls: Vec<_> = (0..free + 1).map(|id| self.service.call(id as u32)).collect();
        settle().await;
        assert_eq!(self.handle.stats().queued, free);
    }
}

fn pick(from: &[u32], nth: usize) -> Option<u32> {
    from.get(nth.checked_rem(from.len())?).copied()
}

async fn play(
    execution: Execution,
    order: Order,
    overflow: Overflow,
    size: [usize; 2],
    flow_limit: Option<usize>,
    ops: &[Op],
) {
    let [capacity, limit] = size;
    let mut builder = builder(capacity, limit);
    if let Some(limit) = flow_limit {
        builder = builder.flow_limit(limit);
    }
    let layer = builder
        .execution(execution)
        .order(order)
        .overflow(overflow)
        .request_classifier(classify as fn(&u32) -> Class)
        .build()
        .expect("valid");
    let (gate, door) = (Gate::new(), Door::default());
    let mut play = Play {
        handle: layer.handle(),
        service: layer.layer(gate.service_behind(&door)),
        gate,
        door,
        live: BTreeMap::new(),
        called: 0,
        capacity,
        limit,
        flow_limit,
        is_paused: false,
        is_shut: false,
    };
    let mut most = capacity + limit;
    for (id, op) in ops.iter().enumerate() {
        play.step(op, id as u32);
        let ms = if let Op::Pass(ms) = op { *ms } else { 0 };
        play.settle(op).await;
        for _ in 0..ms {
            tokio::time::advance(Duration::from_millis(1)).await;
            play.settle(op).await;
        }
        most = most.max(capacity + play.limit);
        play.check_bound(most);
    }
    play.finish().await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Fewer than the default, unless `PROPTEST_CASES` is set.
        cases: std::env::var("PROPTEST_CASES").map_or(150, |_| ProptestConfig::default().cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold_whatever_the_classes(
        order in order(),
        evicts in any::<bool>(),
        capacity in 0..6usize,
        limit in 1..5usize,
        flow_limit in prop::option::of(1..4usize),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        let overflow = if evicts { Overflow::EvictOldest } else { Overflow::Reject };
        for execution in EXECUTIONS {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime");
            runtime.block_on(play(execution, order, overflow, [capacity, limit], flow_limit, &ops));
        }
    }
}
