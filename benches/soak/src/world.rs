//! The leveler of a round, with its services and counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tower::{Layer, Service};
use tower_load_leveling::{
    Class, Handle, LoadLevel, LoadLevelLayer, Priority,
    limit::{Algorithm, Sample},
};

use crate::{
    args::Plant,
    inner::{Inner, Nested, Request, Seen, Task},
    plan::Plan,
    report::fault,
    rng::Rng,
};

pub(crate) type Leveled = LoadLevel<Inner, fn(&Request) -> Class>;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) plant: Option<Plant>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) handle: Handle,
    /// The first of them never dies.
    pub(crate) services: Vec<Leveled>,
    pub(crate) calls: AtomicU64,
    pub(crate) successes: AtomicU64,
    /// Callers that have not come to their end.
    pub(crate) callers: AtomicUsize,
    pub(crate) is_over: AtomicBool,
}

impl World {
    pub(crate) fn new(plan: &Plan, plant: Option<Plant>) -> Arc<Self> {
        let seen = Seen::new(plan);
        let classify: fn(&Request) -> Class = |request| request.class.clone();
        let builder = LoadLevelLayer::builder().capacity(plan.capacity).overflow(plan.overflow);
        let builder = builder.order(plan.order).execution(plan.execution).abandon(plan.abandon);
        let builder = builder.bypass_limit(plan.bypass_limit).classify_request(classify);
        let builder = match plan.max_wait {
            Some(max_wait) => builder.max_wait(max_wait),
            None => builder,
        };
        let mut rng = Rng::new((plan.seed, plan.round, "inner services"));
        let layer = match plan.is_adaptive {
            true => builder.adaptive(Drawn { rng: rng.clone(), limit: plan.limit }),
            false => builder.concurrency(plan.limit),
        };
        let layer = layer.build().expect("a plan has settings that make sense");
        let services = (0..3).map(|nth| {
            let rng = Rng::new(rng.next());
            layer.layer(Inner::new(&seen, rng, plan.has_dying_inner && nth == 2))
        });
        let world = Arc::new(Self {
            plan: plan.clone(),
            plant,
            services: services.collect(),
            handle: layer.handle(),
            seen,
            calls: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            callers: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let _ = world.seen.world.set(Arc::downgrade(&world));
        world
    }

    /// Makes a call for a running call. Nothing but a wait limit bounds its wait.
    pub(crate) fn nested_call(&self, depth: u8, seed: u64) -> Nested {
        let mut rng = Rng::new(seed);
        let task = match depth {
            0 => Task::Yields(rng.below(3) as u8),
            depth => Task::Nests(depth - 1, rng.next()),
        };
        let (class, cost) = self.class(&mut rng);
        let mut request = Request::new(&self.seen, task, class);
        request.cost = cost;
        self.calls.fetch_add(1, SeqCst);
        let mut service = self.services[rng.below(3) as usize].clone();
        Box::pin(service.call(request))
    }

    /// Draws a class, and the cost.
    fn class(&self, rng: &mut Rng) -> (Class, usize) {
        let (mut class, mut cost) = (Class::new(), 1);
        if self.plan.has_classes {
            class = class.priority(rng.pick(Priority::ALL));
            if rng.one_in(2) {
                class = class.flow(rng.below(20));
            }
        }
        if self.plan.has_costs {
            cost = 1 + rng.below(4) as usize;
            class = class.cost(cost as u32);
        }
        (class, cost)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    pub(crate) fn fault(&self, what: &str) {
        fault(&self.plan, &format!("{what}\n  {}", self.handle.stats()));
    }

    /// Waits until something is so. Reports a fault if it is not after half a minute.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > Duration::from_secs(30) {
                self.fault(what);
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Draws a request. Its caller must give up if `gives_up`.
    pub(crate) fn request(&self, rng: &mut Rng, gives_up: bool) -> Request {
        let plan = &self.plan;
        // Abandoned work would go on for ever.
        let may_stay = gives_up && plan.abandon == tower_load_leveling::Abandon::Cancel;
        let task = match rng.below(100) {
            0..3 if may_stay => Task::Forever,
            0..5 if plan.has_panics => Task::PanicsInCall,
            5..10 if plan.has_panics => Task::PanicsLater,
            10..20 => Task::Fails,
            20..40 => Task::Yields(1 + rng.below(4) as u8),
            40..50 if plan.has_nested => Task::Nests(rng.below(3) as u8, rng.next()),
            _ if rng.one_in(plan.sleeps_one_in) => {
                Task::Sleeps(Duration::from_micros(rng.below(2000)))
            }
            _ => Task::EndsAtOnce,
        };
        let (mut class, cost) = self.class(rng);
        if plan.has_classes && rng.one_in(3) {
            let left = Duration::from_micros(rng.below(30_000));
            class = class.deadline(tokio::time::Instant::now() + left);
        }
        let bypasses = plan.has_bypass && rng.one_in(10);
        if bypasses {
            class = Class::bypass();
            self.seen.bypassed.fetch_add(1, SeqCst);
        }
        let mut request = Request::new(&self.seen, task, class);
        (request.cost, request.bypasses) = (cost, bypasses);
        request
    }
}

/// A limit that is drawn anew now and then.
#[derive(Debug)]
struct Drawn {
    rng: Rng,
    limit: usize,
}

impl Algorithm for Drawn {
    fn limit(&self) -> f64 {
        self.limit as f64
    }

    fn on_sample(&mut self, _: &Sample) {
        if self.rng.one_in(20) {
            self.limit = 1 + self.rng.below(8) as usize;
        }
    }
}
