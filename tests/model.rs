//! The leveler in virtual time: what it promises by itself, and that it does what the layer does.
#![cfg(feature = "model")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, advance},
};
use tower::{BoxError, Layer, Service, service_fn};
use tower_load_leveling::{
    Class, LoadLevelLayer, Order, Priority,
    error::{Reason, Rejected},
    limit::{Algorithm, Fixed, Outcome, Sample},
    model::Model,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn started(model: &mut Model, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| model.start(now)).collect()
}

fn removed(model: &mut Model, now: Instant) -> Vec<(u64, Reason)> {
    std::iter::from_fn(|| model.remove(now)).collect()
}

/// Shows the samples that an algorithm with this limit gets.
struct Recorder(f64, Arc<Mutex<Vec<Sample>>>);

impl Algorithm for Recorder {
    fn limit(&self) -> f64 {
        self.0
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.1.lock().unwrap().push(sample.clone());
    }
}

#[test]
fn capacity_plus_limit_is_the_exact_bound_of_a_model() {
    let now = Instant::now();
    let mut model = Model::new(2, Fixed::new(3));
    let answers: Vec<_> = (0..6).map(|id| model.arrive(id, &Class::new(), now)).collect();
    assert_eq!(answers[..5], [Ok(()); 5]);
    assert_eq!(answers[5], Err(Reason::Full));
    assert_eq!(started(&mut model, now), [0, 1, 2]);
    assert_eq!((model.queued(), model.in_flight(), model.limit()), (2, 3, 3.0));
    model.finish(1, now, Outcome::Success);
    model.finish(1, now, Outcome::Success);
    assert_eq!(started(&mut model, now), [3], "a call finishes once");
}

#[test]
fn a_higher_priority_and_a_shorter_flow_take_the_place_of_another() {
    let now = Instant::now();
    let mut model = Model::new(2, Fixed::new(1));
    let flow = |name: &str| Class::new().flow(name);
    for id in 0..3 {
        assert_eq!(model.arrive(id, &flow("long"), now), Ok(()));
    }
    assert_eq!(started(&mut model, now), [0]);
    assert_eq!(model.arrive(3, &flow("long"), now), Err(Reason::Full));
    assert_eq!(model.arrive(4, &Class::new().priority(Priority::Low), now), Err(Reason::Full));
    assert_eq!(model.arrive(5, &Class::new().priority(Priority::High), now), Ok(()));
    assert_eq!(removed(&mut model, now), [(1, Reason::Evicted)]);

    let mut model = Model::new(2, Fixed::new(1));
    for id in 0..3 {
        assert_eq!(model.arrive(id, &flow("long"), now), Ok(()));
    }
    assert_eq!(model.arrive(3, &flow("short"), now), Ok(()));
    assert_eq!(removed(&mut model, now), [(1, Reason::Evicted)]);
    assert_eq!(model.queued(), 2);
}

#[test]
fn a_late_request_is_refused_or_removed_and_never_started() {
    let now = Instant::now();
    let mut model = Model::new(8, Fixed::new(1)).max_wait(ms(20));
    assert_eq!(model.arrive(0, &Class::new().deadline(now), now), Err(Reason::Deadline));
    assert_eq!(model.arrive(0, &Class::new(), now), Ok(()));
    assert_eq!(started(&mut model, now), [0]);
    assert_eq!(model.arrive(1, &Class::new(), now), Ok(()));
    assert_eq!(model.arrive(2, &Class::new().deadline(now + ms(20)), now), Ok(()));
    assert_eq!(model.arrive(3, &Class::new().deadline(now + ms(30)), now), Ok(()));
    model.finish(0, now + ms(20), Outcome::Success);
    assert_eq!(model.start(now + ms(20)), None);
    let late = [(1, Reason::MaxWait), (2, Reason::Deadline), (3, Reason::MaxWait)];
    assert_eq!(removed(&mut model, now + ms(20)), late);
    assert_eq!(model.queued(), 0);
}

#[test]
fn a_heavy_request_keeps_its_turn_until_its_slots_are_free() {
    let now = Instant::now();
    let mut model = Model::new(8, Fixed::new(3));
    for (id, cost) in [(0, 2), (1, 9), (2, 1)] {
        assert_eq!(model.arrive(id, &Class::new().cost(cost), now), Ok(()));
    }
    assert_eq!(started(&mut model, now), [0]);
    model.finish(0, now, Outcome::Success);
    assert_eq!(started(&mut model, now), [1], "heavier than the limit it runs alone");
    model.finish(1, now, Outcome::Success);
    assert_eq!(started(&mut model, now), [2]);
}

#[test]
fn a_limit_below_1_spaces_what_starts() {
    let begin = Instant::now();
    let mut model = Model::new(100, Recorder(0.5, Arc::default())).service_time(ms(10));
    let mut starts = 0;
    for id in 0..100 {
        assert_eq!(model.arrive(id, &Class::new(), begin), Ok(()));
    }
    for tick in 0..100 {
        let now = begin + ms(10 * tick);
        if let Some(id) = model.start(now) {
            starts += 1;
            model.finish(id, now + ms(10), Outcome::Success);
        }
    }
    assert!((50..=51).contains(&starts), "one each 20 ms: {starts}");
}

#[test]
fn a_sample_says_how_busy_the_model_was() {
    let begin = Instant::now();
    let samples = Arc::new(Mutex::new(Vec::new()));
    let mut model = Model::new(8, Recorder(2.0, Arc::clone(&samples)));
    for id in 0..3 {
        assert_eq!(model.arrive(id, &Class::new(), begin), Ok(()));
    }
    assert_eq!(started(&mut model, begin), [0, 1]);
    model.finish(0, begin + ms(5), Outcome::Overload);
    assert_eq!(started(&mut model, begin + ms(5)), [2]);
    model.finish(2, begin + ms(9), Outcome::Success);
    let samples = samples.lock().unwrap();
    let sample = &samples[0];
    assert_eq!((sample.in_flight_at_dispatch, sample.in_flight), (1, 1));
    assert!(sample.limit_reached, "another waits");
    assert_eq!(sample.outcome, Outcome::Overload);
    let sample = &samples[1];
    assert_eq!((sample.wait, sample.service_time()), (ms(5), ms(4)));
    assert_eq!((sample.in_flight_at_dispatch, sample.in_flight), (2, 1));
}

/// The requests that were started, in this order, and those that were rejected.
type Log = (Vec<u64>, BTreeMap<u64, Reason>);

/// How long each call takes. Steps are even and the longest wait is odd, so that nothing happens at
/// the same time by chance.
const STEP: Duration = Duration::from_millis(2);
const CALL: Duration = Duration::from_millis(8);
const MAX_WAIT: Duration = Duration::from_millis(31);

/// Arrivals in each step: with costs for an even seed, with flows for an odd one. Both at once
/// would come out otherwise, since the layer looks more often at a heavy request that does not fit.
///
/// Less than a second of them: then lower priorities would be shed.
fn traffic(seed: u64) -> Vec<Vec<Class>> {
    let mut bits = seed;
    let mut draw = move |end: u64| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (bits >> 33) % end
    };
    let mut class = move || {
        let class = Class::new().priority(Priority::ALL[draw(5) as usize]);
        match seed % 3 {
            0 => class.cost(1 + draw(3) as u32 / 2),
            1 => class.flow(draw(4)),
            _ => {
                let flow = draw(4);
                class.flow(flow).weight([1, 1, 3, 8][flow as usize])
            }
        }
    };
    (0..400).map(|step| (0..(step / 50 % 4)).map(|_| class()).collect()).collect()
}

/// The limit of flows: of every other seed with flows.
fn flow_limit(seed: u64) -> Option<usize> {
    (seed % 3 != 0 && seed / 3 % 2 == 0).then_some(3)
}

fn of_model(order: Order, traffic: &[Vec<Class>], flow_limit: Option<usize>) -> Log {
    let begin = Instant::now();
    let model = Model::new(16, Fixed::new(8)).order(order).max_wait(MAX_WAIT);
    let mut model = match flow_limit {
        Some(limit) => model.flow_limit(limit),
        None => model,
    };
    let (mut log, mut ends, mut id) = (Log::default(), Vec::new(), 0);
    for (step, classes) in traffic.iter().enumerate() {
        let now = begin + STEP * step as u32;
        let follow = |model: &mut Model, ends: &mut Vec<_>, log: &mut Log| {
            log.1.extend(removed(model, now));
            for id in started(model, now) {
                ends.push((now + CALL, id));
                log.0.push(id);
            }
        };
        follow(&mut model, &mut ends, &mut log);
        while ends.first().is_some_and(|(at, _)| *at <= now) {
            let (_, id) = ends.remove(0);
            model.finish(id, now, Outcome::Success);
            follow(&mut model, &mut ends, &mut log);
        }
        for class in classes {
            let refused = model.arrive(id, class, now).err();
            follow(&mut model, &mut ends, &mut log);
            log.1.extend(refused.map(|reason| (id, reason)));
            id += 1;
        }
    }
    log
}

async fn of_layer(order: Order, traffic: &[Vec<Class>], flow_limit: Option<usize>) -> Log {
    // A model counts flows exactly. In the cells of the layer, flows of some secrets collide.
    let builder = LoadLevelLayer::builder().flow_seed(1);
    let builder = builder.capacity(16).concurrency(8).max_wait(MAX_WAIT);
    let classifier = |(_, class): &(u64, Class)| class.clone();
    let layer = builder.order(order).classify_request(classifier).build().unwrap();
    layer.handle().set_flow_limit(flow_limit).expect("valid");
    let log = Arc::new(Mutex::new(Log::default()));
    let desk = Arc::new(Mutex::new((Vec::new(), HashMap::new())));
    let (calls, starts) = (Arc::clone(&desk), Arc::clone(&log));
    let mut service = layer.layer(service_fn(move |(id, _): (u64, Class)| {
        let (answer, answered) = oneshot::channel::<()>();
        let mut desk = calls.lock().unwrap();
        desk.0.push((Instant::now() + CALL, id));
        desk.1.insert(id, answer);
        starts.lock().unwrap().0.push(id);
        async { answered.await.map_err(BoxError::from) }
    }));
    let mut id = 0;
    for classes in traffic {
        settle().await;
        let end_next = || {
            let mut desk = desk.lock().unwrap();
            let is_due = desk.0.first().is_some_and(|(at, _)| *at <= Instant::now());
            is_due.then(|| {
                let (_, id) = desk.0.remove(0);
                desk.1.remove(&id).unwrap().send(()).unwrap();
            })
        };
        while end_next().is_some() {
            settle().await;
        }
        for class in classes {
            let (call, log) = (service.call((id, class.clone())), Arc::clone(&log));
            tokio::spawn(async move {
                if let Err(error) = call.await {
                    let rejected = error.downcast_ref::<Rejected>().expect("no other error");
                    log.lock().unwrap().1.insert(id, rejected.reason());
                }
            });
            settle().await;
            id += 1;
        }
        advance(STEP).await;
    }
    log.lock().unwrap().clone()
}

async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_starts_and_rejects_what_the_layer_does() {
    for (seed, order) in (0..20).flat_map(|seed| [(seed, Order::Fifo), (seed, Order::Lifo)]) {
        let (traffic, flow_limit) = (traffic(seed), flow_limit(seed));
        let model = of_model(order, &traffic, flow_limit);
        let layer = of_layer(order, &traffic, flow_limit).await;
        for reason in [Reason::Full, Reason::Evicted, Reason::MaxWait] {
            assert!(model.1.iter().any(|(_, why)| *why == reason), "none is rejected: {reason}");
        }
        for (at, (model, layer)) in model.0.iter().zip(&layer.0).enumerate() {
            assert_eq!(model, layer, "start {at} of seed {seed}, {order:?}");
        }
        assert_eq!(model, layer, "seed {seed}, {order:?}");
    }
}
