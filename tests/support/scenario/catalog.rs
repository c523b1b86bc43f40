//! The scenarios, and the layers to play them with.
//!
//! 16 servers with an exponential service time of 20 ms, so 800 requests a second; the limit is 16
//! and Poisson streams ask for more. By themselves these servers answer 99 % within 92.1 ms (20 ms
//! × ln 100).

use std::time::Duration;

use tower_load_leveling::{Builder, LoadLevelLayer, Order, Priority};

use super::{
    report::Report,
    traffic::{Flow, Patience, SERVERS, Scenario, Source},
    world::{Classify, Leveler, classify, play},
};

/// The 99th percentile of the service time itself, in milliseconds.
pub const FLOOR: f64 = 92.1;

const MS: Duration = Duration::from_millis(1);

/// More than can wait in vain within a deadline, so that deadlines decide and not the bound.
const CAPACITY: usize = 8192;

pub fn layer(order: Order) -> Leveler {
    layer_with(order, SERVERS, CAPACITY)
}

pub fn layer_with(order: Order, limit: usize, capacity: usize) -> Leveler {
    let builder = repeatable().capacity(capacity).concurrency(limit).order(order);
    builder.request_classifier(classify as Classify).build().expect("valid settings")
}

/// A builder whose flows are mapped and cut off the same way in each run.
fn repeatable() -> Builder {
    let builder = LoadLevelLayer::builder().cohort_key(1);
    #[cfg(feature = "model")]
    let builder = builder.flow_seed(1);
    builder
}

/// Plain overload, with callers who wait for half a second.
pub fn overload(load: f64, order: Order, drops: bool, seed: u64, length: Duration) -> Report {
    let patience = Patience { drops, ..Patience::of(MS * 500) };
    play(&Scenario::steady(vec![Source::load(load)], patience, length), seed, || layer(order))
}

/// When the trouble begins and ends, in [`recovery`].
const TROUBLE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// Three of four servers fail for five seconds at a load of 0.85, and callers try up to three times
/// more. Returns how long after that it took until all was well; `None` if it has not been half a
/// minute later. With `protected` false the layer is a plain queue that knows of no deadline.
pub fn recovery(limit: usize, protected: bool, seed: u64) -> Option<Duration> {
    let [trouble, calm] = [true, false].map(|fails| outage(limit, protected, fails, seed));
    trouble.recovery(&calm, TROUBLE.1)
}

fn outage(limit: usize, protected: bool, fails: bool, seed: u64) -> Report {
    let order = if protected { Order::AdaptiveLifo } else { Order::Fifo };
    let patience =
        Patience { is_known: protected, retries: 3, drops: protected, ..Patience::of(MS * 250) };
    let steady = Scenario::steady(vec![Source::load(0.85)], patience, Duration::from_secs(38));
    let (begin, end) = TROUBLE;
    let left = if fails { SERVERS / 4 } else { SERVERS };
    let servers = vec![(Duration::ZERO, SERVERS), (begin, left), (end, SERVERS)];
    let capacity = if protected { CAPACITY } else { 1_000_000 };
    play(&Scenario { servers, ..steady }, seed, || layer_with(order, limit, capacity))
}

fn small_flows(count: u64, load: f64) -> impl Iterator<Item = Source> {
    (0..count).map(move |nth| Source::load(load).named("small").flow(Flow::One(nth)))
}

/// One flow at five times the capacity, and twenty that ask for 2 % each.
pub fn elephant(seed: u64, length: Duration) -> Report {
    let elephant = Source::load(5.0).named("elephant").flow(Flow::One(99));
    let sources = small_flows(20, 0.02).chain([elephant]).collect();
    let scenario = Scenario::steady(sources, Patience::of(MS * 500), length);
    play(&scenario, seed, || layer(Order::AdaptiveLifo))
}

/// The same, under a higher priority that asks for 5 %: somebody has to be refused at the door.
pub fn elephant_below(seed: u64, length: Duration) -> Report {
    let elephant = Source::load(5.0).named("elephant").flow(Flow::One(99));
    let urgent = Source::load(0.05).named("urgent").priority(Priority::High);
    let sources = small_flows(20, 0.02).chain([elephant, urgent]).collect();
    let scenario = Scenario::steady(sources, Patience::of(MS * 500), length);
    play(&scenario, seed, || layer(Order::AdaptiveLifo))
}

/// Two flows with requests of 5 ms and 100 ms, each at twice the capacity.
pub fn unequal_work(seed: u64, length: Duration) -> Report {
    let source = |flow, work| Source::load(2.0).work(MS * work).flow(Flow::One(flow));
    let scenario =
        Scenario::steady(vec![source(1, 5), source(2, 100)], Patience::of(MS * 500), length);
    play(&scenario, seed, || layer(Order::AdaptiveLifo))
}

/// The weights of the flows in [`weights`].
pub const WEIGHTS: [u32; 3] = [1, 2, 4];

/// Three flows with these weights and requests that take so many milliseconds, each at twice the
/// capacity.
pub fn weights(work: [u64; 3], capacity: usize, seed: u64, length: Duration) -> Report {
    let sources = (0..3).map(|nth: usize| {
        let source = Source::load(2.0).work(MS * work[nth] as u32).weight(WEIGHTS[nth]);
        source.flow(Flow::One(nth as u64))
    });
    let scenario = Scenario::steady(sources.collect(), Patience::of(MS * 500), length);
    play(&scenario, seed, || layer_with(Order::AdaptiveLifo, SERVERS, capacity))
}

/// The flow limit of [`slow_tenant`].
pub const FLOW_LIMIT: usize = 4;

/// A tenant whose calls take 50 times as long, and who asks for five times the capacity of the
/// servers, beside ten flows that ask for 4 % each. The tenant has the first priority given, the
/// others the second. With `limited`, no flow runs more than [`FLOW_LIMIT`] at once.
pub fn slow_tenant(
    limited: bool,
    [tenant, others]: [Priority; 2],
    capacity: usize,
    seed: u64,
    length: Duration,
) -> Report {
    let small = small_flows(10, 0.04).map(|source| source.priority(others));
    let slow = Source::load(5.0).work(MS * 1000).named("slow").flow(Flow::One(99));
    let sources = small.chain([slow.priority(tenant)]).collect();
    let scenario = Scenario::steady(sources, Patience::of(MS * 5000), length);
    play(&scenario, seed, || {
        let builder = repeatable().cohort_key(seed);
        let builder = builder.capacity(capacity).concurrency(SERVERS);
        let builder = if limited { builder.flow_limit(FLOW_LIMIT) } else { builder };
        builder.request_classifier(classify as Classify).build().expect("valid settings")
    })
}

/// Four flows that together ask for four times the capacity, and 200 that ask for a thousandth
/// each.
pub fn many_small(seed: u64, length: Duration) -> Report {
    let heavy = (0..4).map(|nth| Source::load(1.0).named("heavy").flow(Flow::One(1000 + nth)));
    let sources = small_flows(200, 0.001).chain(heavy).collect();
    let scenario = Scenario::steady(sources, Patience::of(MS * 500), length);
    play(&scenario, seed, || layer(Order::AdaptiveLifo))
}

/// Three priorities at three times the capacity: half of it for the highest, once, and one and a
/// half times.
pub fn priorities(share: f64, seed: u64, length: Duration) -> Report {
    let of = |priority, load| Source::load(load).priority(priority);
    let sources = vec![of(Priority::High, 0.5), of(Priority::Normal, 1.0), of(Priority::Low, 1.5)];
    let scenario = Scenario::steady(sources, Patience::of(MS * 500), length);
    play(&scenario, seed, || {
        let builder = repeatable().capacity(CAPACITY).concurrency(SERVERS);
        let builder = builder.order(Order::AdaptiveLifo).guaranteed_share(share);
        builder.request_classifier(classify as Classify).build().expect("valid settings")
    })
}

/// Twenty honest flows that ask for 2 % each, and somebody who sends five times the capacity under
/// a hundred thousand names.
pub fn invented(capacity: usize, seed: u64, length: Duration) -> Report {
    let invented = Source::load(5.0).named("invented").flow(Flow::AnyOf(100_000));
    let sources = small_flows(20, 0.02).chain([invented]).collect();
    let scenario = Scenario::steady(sources, Patience::of(MS * 500), length);
    play(&scenario, seed, || layer_with(Order::AdaptiveLifo, SERVERS, capacity))
}
