//! `Rejected::is_over_share` against an exact count of what waits, in random play.
#![cfg(feature = "model")]

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use support::{builder, settle};
use tokio::{sync::oneshot, task::JoinHandle};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    ByResult, Class, Execution, LoadLevel, LoadLevelLayer, Priority,
    error::{Reason, Rejected},
};

#[derive(Clone, Copy, Debug)]
struct Request {
    id: usize,
    flow: u32,
    priority: usize,
    weight: u32,
    cost: u32,
}

fn classify(request: &Request) -> Class {
    let class = Class::new().flow(request.flow).priority(Priority::ALL[request.priority]);
    class.weight(request.weight).cost(request.cost)
}

/// What the inner saw and callers got, since the last look.
#[derive(Default)]
struct Log {
    called: Vec<(usize, oneshot::Sender<()>)>,
    /// With what was said of the share, if evicted.
    ended: Vec<(usize, Option<bool>)>,
}

/// The exact count of a flow of a priority.
#[derive(Clone, Copy, Default)]
struct Flow {
    waiting: u64,
    weight: u64,
}

/// The exact counts of a priority.
#[derive(Default)]
struct Level {
    flows: HashMap<u32, Flow>,
    waiting: u64,
    /// The weights of the flows that wait.
    weights: u64,
}

impl Level {
    fn add(&mut self, request: &Request) {
        let flow = self.flows.entry(request.flow).or_default();
        if flow.waiting > 0 {
            self.weights -= flow.weight;
        }
        flow.waiting += u64::from(request.cost);
        flow.weight = request.weight.into();
        self.waiting += u64::from(request.cost);
        self.weights += flow.weight;
    }

    fn remove(&mut self, request: &Request) {
        let flow = self.flows.get_mut(&request.flow).expect("it waits");
        flow.waiting -= u64::from(request.cost);
        self.waiting -= u64::from(request.cost);
        if flow.waiting == 0 {
            self.weights -= flow.weight;
            self.flows.remove(&request.flow);
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}

#[derive(Clone, Copy, Debug)]
struct Play {
    seed: u64,
    flows: u64,
    capacity: usize,
    /// One request in so many is of the first flow.
    flood: u64,
    flow_limit: Option<usize>,
    exact_flows: usize,
    weights: bool,
    costs: bool,
    priorities: u64,
    /// The most requests between two turns of the drain task.
    burst: u64,
}

/// How often the answer was what.
#[derive(Debug, Default)]
struct Found {
    refused: u64,
    evicted: u64,
    marked: u64,
    /// Marked, and has less than its share.
    wrongly: u64,
    /// Not marked, and none has more, for its weight.
    missed: u64,
    /// None has more.
    longest: u64,
    /// Not marked, and the flow runs as much as it may.
    at_limit_missed: u64,
    at_limit: u64,
}

type Classify = fn(&Request) -> Class;

struct Player {
    play: Play,
    random: Random,
    log: Arc<Mutex<Log>>,
    levels: [Level; 5],
    waiting: HashMap<usize, (Request, JoinHandle<()>)>,
    /// In order, for the random choice to be repeated.
    waiting_ids: Vec<usize>,
    running: BTreeMap<usize, (Request, oneshot::Sender<()>)>,
    slots: HashMap<u32, u64>,
    found: Found,
}

impl Player {
    fn look(&mut self) {
        let Log { called, ended } = std::mem::take(&mut *self.log.lock().expect("no panic"));
        // The drain task evicts before any call is made, in an order that the callers don't see.
        let evicted: Vec<_> = ended
            .iter()
            .filter_map(|(id, is_marked)| Some((self.waiting.get(id)?.0, (*is_marked)?)))
            .collect();
        for (request, is_marked) in &evicted {
            let of_level = |other: &&(Request, bool)| other.0.priority == request.priority;
            let all = evicted.iter().filter(of_level).map(|(other, _)| u64::from(other.cost)).sum();
            self.judge(*request, *is_marked, Some(all));
        }
        evicted.iter().for_each(|(request, _)| _ = self.unqueue(request.id));
        for (id, end) in called {
            if let Some(request) = self.unqueue(id) {
                *self.slots.entry(request.flow).or_default() += u64::from(request.cost);
                self.running.insert(id, (request, end));
            }
        }
        for (id, _) in ended {
            if self.unqueue(id).is_none() {
                if let Some((request, _)) = self.running.remove(&id) {
                    *self.slots.get_mut(&request.flow).expect("ran") -= u64::from(request.cost);
                }
            }
        }
    }

    async fn settle(&mut self) {
        for _ in 0..4 {
            settle().await;
            self.look();
        }
    }

    fn unqueue(&mut self, id: usize) -> Option<Request> {
        let (request, _) = self.waiting.remove(&id)?;
        self.levels[request.priority].remove(&request);
        Some(request)
    }

    fn request(&mut self, id: usize) -> Request {
        let Play { flows, flood, .. } = self.play;
        let random = &mut self.random;
        let flow = if random.below(flood) == 0 { 0 } else { random.below(flows) as u32 };
        let weight = if self.play.weights { [1, 2, 5][flow as usize % 3] } else { 1 };
        let cost = if self.play.costs && random.below(4) == 0 { 3 } else { 1 };
        let priority = 2 + random.below(self.play.priorities) as usize;
        Request { id, flow, priority, weight, cost }
    }

    fn arrive(&mut self, id: usize, service: &mut LoadLevel<Inner, Classify, ByResult>) {
        let request = self.request(id);
        self.look();
        let call = service.call(request);
        let log = Arc::clone(&self.log);
        let mut call = Box::pin(call);
        let polled = futures::FutureExt::now_or_never(call.as_mut());
        if let Some(answer) = polled {
            let error = answer.expect_err("nothing ends at once");
            let rejected = error.downcast::<Rejected>().expect("refused");
            assert_eq!(rejected.reason(), Reason::Full);
            self.judge(request, rejected.is_over_share(), None);
            return;
        }
        self.levels[request.priority].add(&request);
        let call = tokio::spawn(async move {
            let evicted = call.await.err().and_then(|error| {
                let rejected = error.downcast::<Rejected>().expect("rejected");
                (rejected.reason() == Reason::Evicted).then(|| rejected.is_over_share())
            });
            log.lock().expect("no panic").ended.push((id, evicted));
        });
        self.waiting.insert(id, (request, call));
        self.waiting_ids.push(id);
        self.look();
    }

    /// Judges a mark. Together with an evicted request, others of the cost `evicted` are evicted.
    fn judge(&mut self, request: Request, is_marked: bool, evicted: Option<u64>) {
        let is_evicted = evicted.is_some();
        let level = &self.levels[request.priority];
        let own = level.flows.get(&request.flow).map_or(0, |flow| flow.waiting);
        let weight = u64::from(request.weight);
        let others = level.waiting > own;
        let waiting = level.waiting - evicted.unwrap_or(0);
        let has_share = others && own * level.weights >= waiting * weight;
        let slots = self.slots.get(&request.flow).copied().unwrap_or(0);
        let limit = self.play.flow_limit.map_or(u64::MAX, |limit| limit as u64);
        let found = &mut self.found;
        found.refused += u64::from(!is_evicted);
        found.evicted += u64::from(is_evicted);
        found.marked += u64::from(is_marked);
        if slots >= limit && !is_evicted {
            found.at_limit += 1;
            found.at_limit_missed += u64::from(!is_marked);
            return;
        }
        // A heavier request may hold the flow.
        if slots > 0 && limit < u64::MAX {
            return;
        }
        if is_marked {
            found.wrongly += u64::from(!has_share);
        }
        if has_share && !is_evicted {
            let is_below = |other: &Flow| own * other.weight < other.waiting * weight;
            let is_longest = !level.flows.values().any(is_below);
            found.longest += u64::from(is_longest);
            found.missed += u64::from(is_longest && !is_marked);
        }
    }

    fn cancel(&mut self) {
        while !self.waiting_ids.is_empty() {
            let at = self.random.below(self.waiting_ids.len() as u64) as usize;
            let id = self.waiting_ids.swap_remove(at);
            if let Some((_, call)) = self.waiting.get(&id) {
                call.abort();
                self.unqueue(id);
                return;
            }
        }
    }

    fn finish(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.random.below(self.running.len() as u64) as usize;
        let id = *self.running.keys().nth(at).expect("is one");
        if let Some((request, end)) = self.running.remove(&id) {
            *self.slots.get_mut(&request.flow).expect("ran") -= u64::from(request.cost);
            let _ = end.send(());
        }
    }
}

type Inner = tower::util::BoxCloneSyncService<Request, (), BoxError>;

fn played(play: Play, steps: u64) -> Found {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let log = Arc::new(Mutex::new(Log::default()));
        let called = Arc::clone(&log);
        let inner = Inner::new(service_fn(move |request: Request| {
            let (end, ended) = oneshot::channel();
            called.lock().expect("no panic").called.push((request.id, end));
            async move {
                let _ = ended.await;
                Ok::<_, BoxError>(())
            }
        }));
        let builder = builder(play.capacity, 8).exact_flows(play.exact_flows).flow_seed(play.seed);
        let builder = builder.execution(Execution::Caller).guaranteed_share(0.05);
        let builder = match play.flow_limit {
            Some(limit) => builder.flow_limit(limit),
            None => builder,
        };
        let layer: LoadLevelLayer<Classify, ByResult> =
            builder.request_classifier(classify as Classify).build().expect("valid");
        let mut service = layer.layer(inner);
        let mut player = Player {
            play,
            random: Random(play.seed),
            log,
            levels: Default::default(),
            waiting: HashMap::new(),
            waiting_ids: Vec::new(),
            running: BTreeMap::new(),
            slots: HashMap::new(),
            found: Found::default(),
        };
        let mut id = 0;
        let fill = 2 * play.capacity as u64 / play.burst;
        for step in 0..fill + steps {
            for _ in 0..1 + player.random.below(2 * play.burst) {
                player.arrive(id, &mut service);
                id += 1;
            }
            player.settle().await;
            if step > fill {
                for _ in 0..player.random.below(play.burst + 1) {
                    match player.random.below(2) {
                        0 => player.cancel(),
                        _ => player.finish(),
                    }
                }
            }
            player.settle().await;
        }
        player.found
    })
}

const PLAIN: Play = Play {
    seed: 1,
    flows: 10,
    capacity: 100,
    flood: u64::MAX,
    flow_limit: None,
    exact_flows: 1024,
    weights: false,
    costs: false,
    priorities: 1,
    burst: 8,
};

const KINDS: [Play; 9] = [
    PLAIN,
    Play { flood: 2, ..PLAIN },
    Play { costs: true, weights: true, ..PLAIN },
    Play { flow_limit: Some(2), costs: true, ..PLAIN },
    Play { exact_flows: 1, flood: 2, ..PLAIN },
    Play { exact_flows: 100_000, ..PLAIN },
    Play { priorities: 3, weights: true, ..PLAIN },
    Play { burst: 1, ..PLAIN },
    Play { burst: 100, weights: true, ..PLAIN },
];

/// Plays each kind with so many flows.
fn each_kind(flows: u64, capacity: usize, steps: u64) {
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let play = Play { flows, capacity, seed: seed as u64, ..kind };
        let found = played(play, steps);
        let case = format!("{found:?}, {play:?}");
        assert!(found.refused + found.evicted > 100, "{case}");
        assert_eq!((found.wrongly, found.at_limit_missed), (0, 0), "{case}");
        // One flow in a hundred may have no place in the table of flows.
        assert!(found.missed <= 1 + found.longest / 50, "{case}");
    }
}

#[test]
fn of_few_flows_exactly_those_with_their_share_are_told_so() {
    each_kind(2, 50, 300);
    each_kind(10, 50, 300);
}

#[test]
fn of_hundreds_of_flows_none_below_its_share_is_told_otherwise() {
    each_kind(60, 200, 100);
    each_kind(300, 400, 100);
}

#[test]
fn of_thousands_of_flows_none_below_its_share_is_told_otherwise() {
    each_kind(1000, 1200, 25);
    each_kind(3000, 3200, 25);
}
