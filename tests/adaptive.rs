//! A limit that is found through the real layer, in virtual time: 16 servers with an exponential
//! service time of 20 ms, and twice as much asked for as they can do. As many as there are servers
//! would be just enough if calls came and went without a gap; what is above that waits in the
//! backend, where nobody can order it.

#[path = "support/scenario/mod.rs"]
mod scenario;
mod support;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use scenario::{
    report::{BIN, Report},
    traffic::{CAPACITY, Patience, SERVERS, Scenario, Source},
    world::{Classify, classify, play},
};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};
use tower_load_leveling::{
    LoadLevelLayer, Order,
    limit::{Algorithm, Bdp, Load, Sample},
};

const S: Duration = Duration::from_secs(1);

/// How many calls at once keep the servers busy, and make them take twice as long as they have to:
/// generous, for it is not a certain number that matters.
fn is_near(limit: f64, servers: usize) -> bool {
    (0.7 * servers as f64..=2.5 * servers as f64).contains(&limit)
}

/// Looks over the shoulder of an algorithm.
struct Watched<A> {
    algorithm: A,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The highest limit that was in force in each instant in which it was told something, and the
    /// last.
    limits: BTreeMap<Instant, (usize, usize)>,
    /// When calls were made, and how many were then in flight.
    dispatched: Vec<(Instant, usize)>,
    /// The limit at each tick.
    ticks: Vec<(Instant, f64)>,
}

impl Seen {
    fn note(&mut self, at: Instant, limit: f64) {
        let limit = (limit as usize).max(1);
        let before = self.limits.last_key_value().map_or(limit, |(_, (_, last))| *last);
        let (highest, last) = self.limits.entry(at).or_insert((before, limit));
        *highest = limit.max(*highest);
        *last = limit;
    }

    /// The mean limit in this time after the first tick.
    fn mean(&self, time: Range<Duration>) -> f64 {
        let start = self.ticks[0].0;
        let ticks = self.ticks.iter().filter(|(at, _)| time.contains(&(*at - start)));
        let limits: Vec<_> = ticks.map(|(_, limit)| *limit).collect();
        limits.iter().sum::<f64>() / limits.len() as f64
    }

    /// Law 2.
    fn assert_never_above_the_limit(&self, initial: usize) {
        assert!(self.dispatched.len() > 10_000);
        for (at, in_flight) in &self.dispatched {
            let before =
                self.limits.range(..at).next_back().map_or(initial, |(_, (_, last))| *last);
            let limit = self.limits.get(at).map_or(before, |(highest, _)| before.max(*highest));
            assert!(*in_flight <= limit, "{in_flight} in flight with a limit of {limit}");
        }
    }
}

impl<A: Algorithm> Algorithm for Watched<A> {
    fn limit(&self) -> f64 {
        self.algorithm.limit()
    }

    fn on_sample(&mut self, sample: &Sample) {
        self.algorithm.on_sample(sample);
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.note(sample.finished, self.limit());
        seen.dispatched.push((sample.dispatched, sample.in_flight_at_dispatch));
    }

    fn on_tick(&mut self, now: Instant, load: &Load) {
        self.algorithm.on_tick(now, load);
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.note(now, self.limit());
        seen.ticks.push((now, self.limit()));
    }
}

fn watch(algorithm: Bdp, servers: Vec<(Duration, usize)>, length: Duration) -> (Report, Seen) {
    let patience = Patience::of(Duration::from_millis(500));
    let steady = Scenario::steady(vec![Source::load(2.0)], patience, length);
    let (seen, initial) = (Arc::<Mutex<Seen>>::default(), algorithm.limit() as usize);
    let watched = Watched { algorithm, seen: Arc::clone(&seen) };
    let report = play(&Scenario { servers, ..steady }, 1, || {
        let builder = LoadLevelLayer::builder().capacity(8192).adaptive(watched);
        let builder = builder.order(Order::AdaptiveLifo);
        builder.request_classifier(classify as Classify).build().expect("valid settings")
    });
    let seen = std::mem::take(&mut *seen.lock().expect("not poisoned"));
    seen.assert_never_above_the_limit(initial);
    (report, seen)
}

/// The share of what so many servers can do that was answered in time in this part of the whole.
fn served(report: &Report, servers: usize, time: Range<Duration>) -> f64 {
    let [from, to] = [time.start, time.end].map(|at| (at.as_millis() / BIN.as_millis()) as usize);
    let served: u32 = report.bins[from..to].iter().sum();
    let possible = CAPACITY * servers as f64 / SERVERS as f64;
    f64::from(served) / (possible * (time.end - time.start).as_secs_f64())
}

#[test]
fn wherever_it_starts_it_comes_to_what_keeps_the_servers_busy() {
    for initial in [1, 64] {
        let algorithm = Bdp::new().initial(initial);
        let (report, seen) = watch(algorithm, vec![(Duration::ZERO, SERVERS)], S * 14);
        let (limit, served) = (seen.mean(S * 8..S * 15), served(&report, SERVERS, S * 8..S * 15));
        assert!(is_near(limit, SERVERS), "from {initial} to {limit}");
        assert!(served > 0.9, "from {initial}: {served}");
    }
}

#[test]
fn it_follows_the_servers_down_and_up() {
    let steps = vec![(Duration::ZERO, SERVERS), (S * 15, SERVERS / 4), (S * 30, SERVERS)];
    let (report, seen) = watch(Bdp::new(), steps, S * 45);
    for (servers, time) in
        [(SERVERS, S * 8..S * 15), (SERVERS / 4, S * 23..S * 30), (SERVERS, S * 38..S * 45)]
    {
        let limit = seen.mean(time.clone());
        assert!(is_near(limit, servers), "{servers} servers, {time:?}: {limit}");
        let served = served(&report, servers, time.clone());
        assert!(served > 0.75, "{servers} servers, {time:?}: {served}");
    }
}

#[tokio::test(start_paused = true)]
async fn adaptive_concurrency_serves_from_the_first_call_on() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::builder().adaptive_concurrency().build().expect("valid");
    let mut service = layer.layer(service_fn(|id: u32| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, tower::BoxError>(id)
    }));
    let calls = futures::future::join_all((0..500).map(|id| service.call(id)));
    assert!(calls.await.into_iter().all(|answer| answer.is_ok()));
    let stats = layer.handle().stats();
    assert!(stats.limit >= 1 && stats.succeeded == 500, "{stats:?}");
}
