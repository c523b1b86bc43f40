//! Law 3 after any history of cancellations, evictions, expiries, priorities and flows: so many
//! calls in one go are admitted as there is room, and over the bound only those for whom another
//! surely gives way.

mod support;

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use proptest::prelude::*;
use support::{builder, gate::Gate, settle};
use tokio_test::task;
use tower::{Layer, Service};
use tower_load_leveling::{
    Class, Handle, LoadLevelLayer, Overflow, Priority,
    error::{Reason, Rejected},
};

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// A kind of requests: a priority, and a flow unless it is 0.
type Kind = (u32, u32);

/// The request number `nth` of a kind.
fn request(nth: u32, (priority, flow): Kind) -> u32 {
    nth << 8 | priority << 4 | flow
}

fn kind(request: u32) -> Kind {
    (request >> 4 & 0xf, request & 0xf)
}

fn class(request: &u32) -> Class {
    let (priority, flow) = kind(*request);
    let class = Class::new().priority(PRIORITIES[priority as usize]);
    if flow == 0 { class } else { class.flow(flow) }
}

#[tokio::test]
async fn after_a_flow_has_cancelled_all_its_requests_as_many_are_admitted_as_fit() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let layer = builder(400, 5).request_classifier(class).build().expect("valid");
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> =
        (0..300).map(|nth| task::spawn(service.call(request(nth, (1, 1))))).collect();
    settle().await;
    drop(calls);
    settle().await;
    let handle = layer.handle();
    assert_eq!((handle.stats().queued, handle.stats().in_flight), (0, 0));
    let before = handle.stats().admitted;
    let calls: Vec<_> = (0..1600).map(|nth| service.call(request(nth, (1, 0)))).collect();
    settle().await;
    let stats = handle.stats();
    assert_eq!(stats.admitted - before, 405);
    assert_eq!(stats.refused.get(Reason::Full), 1195);
    assert_eq!(stats.removed.total(), 0, "who was admitted stays");
    drop(calls);
}

#[derive(Clone, Debug)]
enum Op {
    Call(Kind),
    /// So many calls of a kind, with no yield in between.
    Burst(Kind, u32),
    /// Drop the n-th of the calls that are held, counted round.
    Drop(usize),
    /// Drop all calls of a kind.
    DropAll(Kind),
    /// Finish the n-th of those that run.
    Finish(usize),
    Pass(u64),
    /// Let the drain task run.
    Settle,
}

fn any_kind() -> impl Strategy<Value = Kind> {
    (0..3u32, 0..4u32)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any_kind().prop_map(Op::Call),
        4 => (any_kind(), 2..20u32).prop_map(|(kind, count)| Op::Burst(kind, count)),
        8 => any::<usize>().prop_map(Op::Drop),
        2 => any_kind().prop_map(Op::DropAll),
        4 => any::<usize>().prop_map(Op::Finish),
        2 => (1..80u64).prop_map(Op::Pass),
        6 => Just(Op::Settle),
    ]
}

type Call = task::Spawn<Pin<Box<dyn Future<Output = Result<u32, tower::BoxError>>>>>;

struct World {
    gate: Gate,
    handle: Handle,
    call: Box<dyn FnMut(u32) -> Call>,
    calls: BTreeMap<u32, Call>,
    next: u32,
}

impl World {
    fn new(capacity: usize, limit: usize, overflow: Overflow) -> Self {
        let gate = Gate::new();
        let layer: LoadLevelLayer<_, _> = builder(capacity, limit)
            .overflow(overflow)
            .max_wait(Duration::from_millis(100))
            .request_classifier(class)
            .build()
            .expect("valid");
        let mut service = layer.layer(gate.service());
        let call = move |id| -> Call { task::spawn(Box::pin(service.call(id))) };
        let (call, calls) = (Box::new(call) as Box<_>, BTreeMap::new());
        Self { gate, handle: layer.handle(), call, calls, next: 0 }
    }

    fn call(&mut self, kind: Kind) -> u32 {
        let id = request(self.next, kind);
        self.next += 1;
        self.calls.insert(id, (self.call)(id));
        id
    }

    /// Takes out the calls that have ended.
    fn reap(&mut self) {
        self.calls.retain(|_, call| call.poll().is_pending());
    }

    /// The number of those that wait, by kind.
    fn waiting(&mut self) -> BTreeMap<Kind, usize> {
        let called = self.gate.called();
        let mut waiting = BTreeMap::new();
        for id in self.calls.keys().filter(|id| !called.contains(id)) {
            *waiting.entry(kind(*id)).or_default() += 1;
        }
        waiting
    }

    async fn play(&mut self, op: &Op) {
        match *op {
            Op::Call(kind) => _ = self.call(kind),
            Op::Burst(kind, count) => (0..count).for_each(|_| _ = self.call(kind)),
            Op::Drop(nth) => {
                let id = self.calls.keys().nth(nth % self.calls.len().max(1)).copied();
                id.map(|id| self.calls.remove(&id));
            }
            Op::DropAll(which) => self.calls.retain(|id, _| kind(*id) != which),
            Op::Finish(nth) => {
                let (called, over) = (self.gate.called(), self.gate.finished());
                let over = [over, self.gate.dropped()].concat();
                let running: Vec<_> = called.iter().filter(|id| !over.contains(id)).collect();
                if let Some(id) = running.get(nth % running.len().max(1)) {
                    self.gate.finish(**id);
                }
                settle().await;
            }
            Op::Pass(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
            Op::Settle => settle().await,
        }
        self.reap();
    }
}

/// The number of calls of a kind, out of `count` in one go, that are admitted. Waiting requests
/// give way to each as the laws say, as if the drain task removed one after each call.
fn expected(
    mut waiting: BTreeMap<Kind, usize>,
    room: usize,
    kind: Kind,
    count: usize,
    overflow: Overflow,
) -> usize {
    let lower: usize = waiting
        .iter()
        .filter(|((priority, _), _)| *priority > kind.0)
        .map(|(_, count)| count)
        .sum();
    let others: usize = waiting.values().sum();
    let mut over = 0;
    *waiting.entry(kind).or_default() += room;
    let longest = |waiting: &BTreeMap<Kind, usize>| {
        let same = waiting
            .iter()
            .filter(|((priority, flow), _)| (*priority, *flow) != kind && *priority == kind.0);
        same.map(|(_, count)| *count).max().unwrap_or(0)
    };
    for _ in room..count {
        let (longest, own) = (longest(&waiting), waiting[&kind]);
        let gives_way = match overflow {
            Overflow::EvictOldest => others + room > 0,
            _ => over < lower || own + 1 + (over - lower.min(over)) < longest,
        };
        if !gives_way {
            break;
        }
        over += 1;
        *waiting.entry(kind).or_default() += 1;
    }
    count.min(room + over)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_room_for_exactly_so_many(
        (capacity, limit) in (0..24usize, 1..4usize),
        history in prop::collection::vec(op(), 0..60),
        (kind, is_looked_at, evicts) in (any_kind(), any::<bool>(), any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
        let overflow = if evicts { Overflow::EvictOldest } else { Overflow::Reject };
        runtime.block_on(async {
            let mut world = World::new(capacity, limit, overflow);
            // Until the queue has seen a flow, none gives way to another.
            world.handle.pause();
            world.call((1, 9));
            settle().await;
            world.calls.clear();
            world.handle.resume();
            settle().await;
            for op in &history {
                world.play(op).await;
            }
            settle().await;
            world.reap();
            if is_looked_at {
                // The drain task runs once more, and looks at who is left.
                world.handle.set_capacity(capacity);
                settle().await;
            }
            // All that runs stays: what is free is room to wait.
            world.handle.pause();
            let (waiting, room) = (world.waiting(), world.handle.room());
            let before = world.handle.stats();
            prop_assert_eq!(before.queued, waiting.values().sum::<usize>());
            let count = 60;
            let newcomers: Vec<_> = (0..count).map(|_| world.call(kind)).collect();
            let admitted = (world.handle.stats().admitted - before.admitted) as usize;
            let most = expected(waiting, room, kind, count, overflow);
            if is_looked_at {
                prop_assert_eq!(admitted, most);
            } else {
                prop_assert!((room.min(count)..=most).contains(&admitted), "{}", admitted);
            }
            settle().await;
            let stats = world.handle.stats();
            prop_assert!(stats.queued + stats.in_flight <= capacity + limit);
            if !evicts {
                let mut removed = 0;
                for id in newcomers {
                    let answer = world.calls.get_mut(&id).expect("held").poll();
                    let std::task::Poll::Ready(Err(error)) = answer else { continue };
                    let rejected = error.downcast_ref::<Rejected>().expect("a rejection");
                    removed += usize::from(rejected.reason() == Reason::Evicted);
                }
                prop_assert_eq!(removed, 0, "who was admitted for another is not removed for one");
            }
            Ok(())
        })?;
    }
}
