//! The discrete-event loop: arrivals, ends of work, and callers who give up, at their exact times,
//! around the real layer on a clock that stands still in between.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime,
    task::AbortHandle,
    time::{Instant, advance},
};
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    ByResult, Class, LoadLevel, LoadLevelLayer,
    error::{Reason, Rejected},
};

use super::{
    backend::{Backend, Request},
    random::Random,
    report::{BIN, Report, Tally},
    traffic::{Flow, Scenario},
};

/// What the layer is told of a request.
pub type Classify = fn(&Request) -> Class;
pub type Leveler = LoadLevelLayer<Classify, ByResult>;

pub fn classify(request: &Request) -> Class {
    request.class.clone()
}

/// Plays the scenario with this layer, made inside of the paused runtime.
pub fn play(scenario: &Scenario, seed: u64, layer: impl FnOnce() -> Leveler) -> Report {
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { World::new(scenario, seed, layer()).run().await })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Servers(usize),
    Arrival { source: usize },
    Done { id: u64 },
    GivesUp { id: u64 },
    Retry { original: u64 },
}

/// One call of a caller, who may make several until it is served.
struct Try {
    original: u64,
    begun: Instant,
    /// Whether its caller is still there.
    is_wanted: bool,
    is_answered: bool,
    /// In the queue of the layer.
    waits: bool,
    task: Option<AbortHandle>,
}

struct Original {
    source: usize,
    work: Duration,
    class: Class,
    tries: u32,
    is_counted: bool,
}

type Answers = Arc<Mutex<Vec<(u64, Result<(), BoxError>)>>>;

struct World<'a> {
    scenario: &'a Scenario,
    start: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    next_event: u64,
    service: LoadLevel<Backend, Classify, ByResult>,
    backend: Backend,
    answers: Answers,
    tries: HashMap<u64, Try>,
    originals: HashMap<u64, Original>,
    next_id: u64,
    /// Waiting in the layer, by priority.
    waiting: [i64; 5],
    arrivals: Vec<Random>,
    works: Vec<Random>,
    flows: Random,
    delays: Random,
    report: Report,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, layer: Leveler) -> Self {
        let backend = Backend::new(scenario.servers[0].1);
        let streams = |purpose: u64| {
            (0..scenario.sources.len() as u64)
                .map(|source| Random::stream(seed, purpose << 32 | source))
                .collect()
        };
        let bins = (scenario.warm_up + scenario.length).as_millis() / BIN.as_millis();
        Self {
            scenario,
            start: Instant::now(),
            events: BinaryHeap::new(),
            next_event: 0,
            service: layer.layer(backend.clone()),
            backend,
            answers: Answers::default(),
            tries: HashMap::new(),
            originals: HashMap::new(),
            next_id: 0,
            waiting: [0; 5],
            arrivals: streams(1),
            works: streams(2),
            flows: Random::stream(seed, 3),
            delays: Random::stream(seed, 4),
            report: Report {
                by_source: vec![Tally::default(); scenario.sources.len()],
                length: scenario.length,
                bins: vec![0; bins as usize],
                ..Report::default()
            },
        }
    }

    async fn run(mut self) -> Report {
        for (at, servers) in &self.scenario.servers {
            self.schedule(self.start + *at, Event::Servers(*servers));
        }
        (0..self.scenario.sources.len()).for_each(|source| self.schedule_arrival(source));
        let end = self.start + self.scenario.warm_up + self.scenario.length;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            let now = Instant::now();
            if at > now {
                advance(at - now).await;
            }
            self.happen(event);
            self.settle().await;
        }
        self.report
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((at, self.next_event, event)));
    }

    fn schedule_arrival(&mut self, source: usize) {
        let mean = Duration::from_secs_f64(1.0 / self.scenario.sources[source].rate);
        let gap = self.arrivals[source].exponential(mean);
        self.schedule(Instant::now() + gap, Event::Arrival { source });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Servers(servers) => self.backend.set_servers(servers),
            Event::Arrival { source } => {
                self.schedule_arrival(source);
                let original = self.arrive(source);
                self.call(original);
            }
            Event::Done { id } => {
                if let Some(work) = self.backend.finish(id) {
                    self.on_work(id, work);
                }
            }
            Event::GivesUp { id } => self.give_up(id),
            Event::Retry { original } => self.call(original),
        }
    }

    fn arrive(&mut self, source: usize) -> u64 {
        let from = &self.scenario.sources[source];
        let class = Class::new().priority(from.priority).weight(from.weight);
        let class = match from.flow {
            Flow::None => class,
            Flow::One(flow) => class.flow(flow),
            Flow::AnyOf(flows) => class.flow(("any", self.flows.below(flows))),
        };
        let work = self.works[source].exponential(from.work);
        // Not at the very end either: it would not be known what became of it.
        let Scenario { warm_up, length, patience, .. } = self.scenario;
        let until = *warm_up + *length - (patience.deadline + BIN) * (patience.retries + 1);
        let is_counted = (*warm_up..until).contains(&self.since_start());
        self.report.by_source[source].offered += u64::from(is_counted);
        let id = self.next_id;
        self.next_id += 1;
        self.originals.insert(id, Original { source, work, class, tries: 0, is_counted });
        id
    }

    fn since_start(&self) -> Duration {
        Instant::now() - self.start
    }

    fn call(&mut self, original: u64) {
        let known = self.originals.get_mut(&original).expect("not forgotten before it is served");
        known.tries += 1;
        let (id, now) = (self.next_id, Instant::now());
        self.next_id += 1;
        let deadline = now + self.scenario.patience.deadline;
        let mut class = known.class.clone();
        if self.scenario.patience.is_known {
            class = class.deadline(deadline);
        }
        let request = Request { id, work: known.work, class };
        self.waiting[self.level(original)] += 1;
        self.schedule(deadline, Event::GivesUp { id });
        let answers = Arc::clone(&self.answers);
        self.tries.insert(
            id,
            Try {
                original,
                begun: now,
                is_wanted: true,
                is_answered: false,
                waits: true,
                task: None,
            },
        );
        let call = self.service.call(request);
        let task = tokio::spawn(async move {
            let answer = call.await;
            answers.lock().expect("no panic under this lock").push((id, answer));
        });
        self.tries.entry(id).and_modify(|one| one.task = Some(task.abort_handle()));
    }

    fn level(&self, original: u64) -> usize {
        let source = self.originals.get(&original).map_or(0, |known| known.source);
        self.scenario.sources[source].priority as usize
    }

    /// The deadline of a call passes.
    fn give_up(&mut self, id: u64) {
        let Some(one) = self.tries.get_mut(&id) else { return };
        if one.is_answered {
            self.tries.remove(&id);
            return;
        }
        one.is_wanted = false;
        let original = one.original;
        if self.scenario.patience.drops {
            if let Some(task) = &one.task {
                task.abort();
            }
        }
        self.stop_waiting(id);
        self.try_again(original);
    }

    fn stop_waiting(&mut self, id: u64) {
        let Some(one) = self.tries.get_mut(&id) else { return };
        if std::mem::replace(&mut one.waits, false) {
            let original = one.original;
            self.waiting[self.level(original)] -= 1;
        }
    }

    fn try_again(&mut self, original: u64) {
        let Some(known) = self.originals.get(&original) else { return };
        if known.tries > self.scenario.patience.retries {
            self.originals.remove(&original);
            return;
        }
        let delay = Duration::from_millis(50).mul_f64(0.5 + self.delays.uniform());
        self.schedule(Instant::now() + delay, Event::Retry { original });
    }

    /// Lets the layer do all it has to do now, and takes note of it.
    async fn settle(&mut self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        // Answers first: one who was turned away before the next was called did not wait any more.
        let answers = std::mem::take(&mut *self.answers.lock().expect("no panic under this lock"));
        answers.into_iter().for_each(|(id, answer)| self.on_answer(id, answer));
        let news = self.backend.news();
        news.called.into_iter().for_each(|id| self.on_called(id));
        news.begun.into_iter().for_each(|(at, id)| self.schedule(at, Event::Done { id }));
        news.stopped.into_iter().for_each(|(id, work)| self.on_work(id, work));
    }

    fn on_called(&mut self, id: u64) {
        self.stop_waiting(id);
        let Some(one) = self.tries.get(&id) else { return };
        let level = self.level(one.original);
        if self.waiting[..level].iter().any(|waiting| *waiting > 0) {
            let work = self.originals.get(&one.original).map_or(Duration::ZERO, |known| known.work);
            self.report.overtook[level].0 += 1;
            self.report.overtook[level].1 += work;
        }
    }

    /// A server has spent so much time on a call.
    fn on_work(&mut self, id: u64, work: Duration) {
        if self.since_start() < self.scenario.warm_up {
            return;
        }
        self.report.work += work;
        if self.tries.get(&id).is_none_or(|one| !one.is_wanted) {
            self.report.wasted += work;
        }
    }

    fn on_answer(&mut self, id: u64, answer: Result<(), BoxError>) {
        self.stop_waiting(id);
        let Some(one) = self.tries.get_mut(&id) else { return };
        one.is_answered = true;
        let (original, begun, is_wanted) = (one.original, one.begun, one.is_wanted);
        if !is_wanted {
            self.tries.remove(&id);
            return;
        }
        let took = Instant::now() - begun;
        if answer.is_ok() {
            self.on_served(original, took);
        } else {
            let reason = answer.err().and_then(|error| error.downcast::<Rejected>().ok());
            let reason = reason.map_or(Reason::Closed, |rejected| rejected.reason());
            self.report.rejected.entry(reason).or_default().push(took);
            self.try_again(original);
        }
    }

    fn on_served(&mut self, original: u64, took: Duration) {
        let since_start = self.since_start();
        let Some(known) = self.originals.remove(&original) else { return };
        let bin = (since_start.as_millis() / BIN.as_millis()) as usize;
        if let Some(bin) = self.report.bins.get_mut(bin) {
            *bin += 1;
        }
        let tally = &mut self.report.by_source[known.source];
        if since_start >= self.scenario.warm_up {
            tally.work += known.work;
        }
        if known.is_counted {
            tally.served += 1;
            tally.sojourn.push(took);
        }
    }
}
