//! Law 1, under random play with nested calls: whatever comes between a nested call and its turn,
//! no call hangs.
//!
//! Two levelers call themselves and each other. The second is called by the first alone: two
//! levelers that both are called from outside can wait for each other's slots, and nobody is
//! nested. Other seeds, and more: `FIRST=3000 HISTORIES=60000 cargo test --test nested_at_random`.

mod support;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::join;
use tokio::{
    runtime,
    task::{JoinHandle, yield_now},
    time::{Instant, Sleep, sleep, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, util::BoxCloneSyncService};
use tower_load_leveling::{
    Abandon, Class, Execution, Handle, LoadLevelLayer, Order, Overflow, Priority,
    error::{Reason, Rejected},
    limit::{Algorithm, Load, Sample},
};

/// A sequence that looks random (SplitMix64).
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

type Levelled = BoxCloneSyncService<Ask, (), BoxError>;
type Answer = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// A request. Everything about its work follows from the seed.
#[derive(Clone, Debug)]
struct Ask {
    seed: u64,
    depth: u8,
    /// The levelers of the outer calls.
    within: [bool; 2],
    class: Class,
    is_bounded: bool,
}

impl Ask {
    fn draw(rng: &mut Rng, depth: u8, within: [bool; 2], has_time: bool) -> Self {
        let mut class = Class::new();
        if rng.one_in(2) {
            class = class.priority(rng.pick(Priority::ALL));
        }
        if rng.one_in(2) {
            class = class.flow(rng.below(3));
        }
        if rng.one_in(3) {
            class = class.cost(1 + rng.below(3) as u32);
        }
        let is_bounded = has_time && rng.one_in(10);
        if is_bounded {
            class = class.deadline(Instant::now() + Duration::from_millis(1 + rng.below(20)));
        }
        Self { seed: rng.next(), depth, within, class, is_bounded }
    }
}

/// Two levelers, with two services each.
struct World {
    services: OnceLock<[Vec<Levelled>; 2]>,
    overflow: [Overflow; 2],
    /// On a paused clock. Otherwise nothing sleeps, and nothing is paced.
    has_time: bool,
    nested: AtomicU64,
    refused: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl World {
    /// Makes a nested call.
    async fn call(&self, at: usize, ask: Ask, rng: &mut Rng) -> Result<(), BoxError> {
        let (within, is_bounded) = (ask.within, ask.is_bounded);
        let mut service = self.service(at, rng);
        self.nested.fetch_add(1, SeqCst);
        let result = match rng.one_in(2) {
            true => service.call(ask).await,
            false => service.oneshot(ask).await,
        };
        self.on_answer(at, within, is_bounded, result)
    }

    fn service(&self, at: usize, rng: &mut Rng) -> Levelled {
        let services = self.services.get().expect("made");
        services[at][rng.below(2) as usize].clone()
    }

    /// Looks at the answer of a nested call. The error says nothing to the callers further out.
    fn on_answer(
        &self,
        at: usize,
        within: [bool; 2],
        is_bounded: bool,
        result: Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let Err(error) = result else { return Ok(()) };
        if reason(&error) == Some(Reason::Nested) {
            self.refused.fetch_add(1, SeqCst);
            // Under `Overflow::Wait`, no deadline is known when a place is asked for.
            if !within[at] || is_bounded && self.overflow[at] != Overflow::Wait {
                self.fault(format!("refused as nested: bounded {is_bounded}, within {within:?}"));
            }
        }
        Err("of a nested call".into())
    }

    fn fault(&self, what: String) {
        self.faults.lock().expect("whole").push(what);
    }

    async fn pass(&self, rng: &mut Rng) {
        match rng.below(4) {
            0 => {}
            1 if self.has_time => sleep(Duration::from_millis(rng.below(4))).await,
            _ => {
                for _ in 0..rng.below(8) {
                    yield_now().await;
                }
            }
        }
    }
}

fn reason(error: &BoxError) -> Option<Reason> {
    error.downcast_ref::<Rejected>().map(Rejected::reason)
}

/// An inner, not always ready, that makes nested calls.
struct Inner {
    at: usize,
    world: Weak<World>,
    rng: Rng,
    /// Becomes unready now and then.
    is_moody: bool,
    unready: Option<Unready>,
}

enum Unready {
    Until(Pin<Box<Sleep>>),
    For(u64),
}

impl Service<Ask> for Inner {
    type Response = ();
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.unready {
            None => {}
            Some(Unready::Until(sleep)) => ready!(sleep.as_mut().poll(cx)),
            Some(Unready::For(0)) => {}
            Some(Unready::For(polls)) => {
                *polls -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.unready = None;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Answer {
        let Some(world) = self.world.upgrade() else { return Box::pin(async { Ok(()) }) };
        if self.is_moody && self.rng.one_in(3) {
            let time = Duration::from_millis(1 + self.rng.below(5));
            self.unready = Some(match world.has_time {
                true => Unready::Until(Box::pin(sleep(time))),
                false => Unready::For(1 + self.rng.below(5)),
            });
        }
        let mut rng = Rng(ask.seed);
        let mut within = ask.within;
        within[self.at] = true;
        let has_time = world.has_time;
        let next = |rng: &mut Rng| {
            let at = if rng.one_in(3) { 1 - self.at } else { self.at };
            (at, Ask::draw(rng, ask.depth - 1, within, has_time))
        };
        if ask.depth == 0 {
            return Box::pin(async move {
                world.pass(&mut rng).await;
                Ok(())
            });
        }
        if rng.one_in(3) {
            // In `call` itself, while the inner is locked.
            let (at, ask) = next(&mut rng);
            let is_bounded = ask.is_bounded;
            world.nested.fetch_add(1, SeqCst);
            let call = world.service(at, &mut rng).call(ask);
            return Box::pin(async move { world.on_answer(at, within, is_bounded, call.await) });
        }
        let nested: Vec<_> = (0..1 + rng.below(3)).map(|_| next(&mut rng)).collect();
        Box::pin(async move {
            world.pass(&mut rng).await;
            let mut nested = nested.into_iter();
            while let Some((at, ask)) = nested.next() {
                let mut other = rng.clone();
                match (rng.below(4), nested.next()) {
                    (0, Some((to, also))) => {
                        let calls =
                            join(world.call(at, ask, &mut rng), world.call(to, also, &mut other));
                        let (one, two) = calls.await;
                        one.and(two)?;
                    }
                    (1, _) if world.has_time => {
                        let time = Duration::from_millis(rng.below(3));
                        let _ = timeout(time, world.call(at, ask, &mut rng)).await;
                    }
                    _ => world.call(at, ask, &mut rng).await?,
                }
                world.pass(&mut rng).await;
            }
            Ok(())
        })
    }
}

/// A limit that is drawn anew now and then.
#[derive(Debug)]
struct Drawn {
    rng: Rng,
    limit: f64,
}

impl Drawn {
    fn draw(&mut self) {
        if self.rng.one_in(4) {
            self.limit = self.rng.pick(&[0.5, 1.0, 1.0, 2.0, 3.0, 4.0]);
        }
    }
}

impl Algorithm for Drawn {
    fn limit(&self) -> f64 {
        self.limit
    }

    fn on_sample(&mut self, _: &Sample) {
        self.draw();
    }

    fn on_tick(&mut self, _: Instant, _: &Load) {
        self.draw();
    }
}

/// Makes a leveler, and two services.
fn leveler(world: &Arc<World>, at: usize, rng: &mut Rng) -> (Handle, Vec<Levelled>) {
    let execution = rng.pick(&[Execution::Spawn, Execution::Caller]);
    // Work of the second that is left behind would be a call from outside.
    let abandon = match execution {
        Execution::Spawn if at == 0 => rng.pick(&[Abandon::Cancel, Abandon::Finish]),
        _ => Abandon::Cancel,
    };
    let limit = 1 + rng.below(4) as usize;
    let mut builder = LoadLevelLayer::builder()
        .capacity(rng.pick(&[0, 1, 3, 20]))
        .overflow(world.overflow[at])
        .order(rng.pick(&[Order::Fifo, Order::Fifo, Order::Lifo, Order::AdaptiveLifo]))
        .execution(execution)
        .abandon(abandon);
    if rng.one_in(3) {
        builder = builder.flow_limit(1 + rng.below(3) as usize);
    }
    if world.has_time && rng.one_in(6) {
        builder = builder.rate(1 + rng.below(4) as u32, Duration::from_millis(5));
    }
    builder = match rng.one_in(5) {
        true => builder.adaptive(Drawn { rng: Rng(rng.next()), limit: limit as f64 }),
        false => builder.concurrency(limit),
    };
    let layer = builder.classify_request(|ask: &Ask| ask.class.clone()).build().expect("valid");
    let services = [false, true].map(|is_moody| {
        let (world, rng) = (Arc::downgrade(world), Rng(rng.next()));
        let inner = Inner { at, world, rng, is_moody, unready: None };
        match is_moody {
            true => Levelled::new(layer.layer(inner)),
            // Unready while three of its calls run.
            false => Levelled::new(layer.layer(tower::limit::ConcurrencyLimit::new(inner, 3))),
        }
    });
    (layer.handle(), services.to_vec())
}

/// Turns a knob.
fn act(handle: &Handle, has_time: bool, rng: &mut Rng) {
    match rng.below(8) {
        0..3 => handle.set_limit(1 + rng.below(4) as usize).expect("valid"),
        3 => {
            let limit = rng.pick(&[None, Some(1), Some(2)]);
            handle.set_flow_limit(limit).expect("valid");
        }
        4 => handle.pause(),
        5 => handle.resume(),
        6 => handle.set_capacity(rng.pick(&[0, 1, 3, 20])),
        _ if has_time => {
            let rate = rng.pick(&[None, Some((1, Duration::from_millis(3)))]);
            handle.set_rate(rate).expect("valid");
        }
        _ => drop(handle.resume_adaptive()),
    }
}

/// What came of some histories.
#[derive(Debug, Default)]
struct Told {
    calls: u64,
    nested: u64,
    refused: u64,
    /// The histories in which a call has hung, by seed.
    hung: Vec<u64>,
    /// By what they are.
    faults: BTreeMap<String, Vec<u64>>,
}

impl Told {
    #[track_caller]
    fn check(&self, histories: u64) {
        let Self { calls, nested, refused, hung, faults } = self;
        println!("{histories} histories, {calls} calls, {nested} nested, {refused} refused");
        assert!(hung.is_empty(), "{} of {histories} have hung: {hung:?}", hung.len());
        assert!(faults.is_empty(), "{faults:?}");
        // Of both, enough to say something.
        assert!(*refused > histories && *nested > refused + histories);
    }
}

/// Plays a history, and waits for `patience` until every call has ended.
async fn play(seed: u64, has_time: bool, patience: Duration, told: &mut Told) {
    let rng = &mut Rng(seed);
    let overflows = [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest];
    let world = Arc::new(World {
        services: OnceLock::new(),
        overflow: [rng.pick(&overflows), rng.pick(&overflows)],
        has_time,
        nested: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        faults: Mutex::default(),
    });
    let ((first, a), (second, b)) = (leveler(&world, 0, rng), leveler(&world, 1, rng));
    assert!(world.services.set([a, b]).is_ok());
    let handles = [first, second];
    let has_acts = rng.one_in(2);
    let mut calls: Vec<JoinHandle<Result<(), BoxError>>> = Vec::new();
    for _ in 0..4 + rng.below(12) {
        for _ in 0..1 + rng.below(3) {
            let depth = rng.below(4) as u8;
            let ask = Ask::draw(rng, depth, [false; 2], has_time);
            let service = world.service(0, rng);
            calls.push(tokio::spawn(service.oneshot(ask)));
        }
        if has_acts && rng.one_in(2) {
            act(&handles[rng.below(2) as usize], has_time, rng);
        }
        if rng.one_in(10) {
            calls[rng.below(calls.len() as u64) as usize].abort();
        }
        world.pass(rng).await;
    }
    handles.iter().for_each(Handle::resume);
    told.calls += calls.len() as u64;
    let mut fault = |what: String| told.faults.entry(what).or_default().push(seed);
    let deadline = Instant::now() + patience;
    let mut has_hung = false;
    for mut call in calls {
        match tokio::time::timeout_at(deadline, &mut call).await {
            Ok(Ok(Err(error))) if reason(&error) == Some(Reason::Nested) => {
                fault("a call from outside is refused as nested".to_owned());
            }
            Ok(Err(error)) if error.is_panic() => fault("a panic".to_owned()),
            Ok(_) => {}
            Err(_) => {
                has_hung = true;
                call.abort();
            }
        }
    }
    for handle in &handles {
        // Abandoned work may go on.
        has_hung |= tokio::time::timeout_at(deadline, handle.idle()).await.is_err();
    }
    if has_hung {
        told.hung.push(seed);
    } else {
        for handle in &handles {
            let stats = handle.stats();
            let ended = stats.succeeded + stats.failed + stats.cancelled + stats.panicked;
            if stats.admitted != ended + stats.removed.total() {
                fault(format!("the books do not balance: {stats}"));
            }
            if (stats.queued, stats.in_flight, stats.waiting_for_place) != (0, 0, 0) {
                fault(format!("something is left: {stats}"));
            }
        }
    }
    world.faults.lock().expect("whole").drain(..).for_each(fault);
    told.nested += world.nested.load(SeqCst);
    told.refused += world.refused.load(SeqCst);
}

#[test]
fn no_call_hangs_in_thousands_of_histories() {
    let _t = support::trace_init();
    let (first, histories) = (from_env("FIRST", 0), from_env("HISTORIES", 3000));
    let mut told = Told::default();
    for seed in first..first + histories {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(play(seed, true, Duration::from_secs(3600), &mut told));
    }
    told.check(histories);
}

/// The order in which threads run is that of the moment, and no order hangs.
#[test]
fn no_call_hangs_with_two_workers() {
    let _t = support::trace_init();
    let histories = 300;
    let mut told = Told::default();
    let mut builder = runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build().expect("a runtime");
    for seed in 0..histories {
        runtime.block_on(play(seed, false, Duration::from_secs(60), &mut told));
        if !told.hung.is_empty() {
            break;
        }
    }
    told.check(histories);
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}
