//! What an adaptive limit has learned outlives a restart.

use std::{convert::Infallible, time::Duration};

use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_load_leveling::{
    LoadLevelLayer,
    limit::{Algorithm, Bdp, LimitState, Outcome, Sample},
};

/// An inner with `servers`, all of the same speed, that always has enough to do. Calls take the
/// same time and finish one by one, evenly spaced.
struct Inner {
    now: Instant,
    servers: f64,
    service: f64,
}

impl Inner {
    fn new(servers: f64, service: f64) -> Self {
        Self { now: Instant::now(), servers, service }
    }

    /// Lets time pass, and this many calls finish with `outcome`.
    fn finish(&mut self, bdp: &mut Bdp, calls: usize, outcome: Outcome) {
        for _ in 0..calls {
            let limit = bdp.limit();
            let rate = limit.min(self.servers) / self.service;
            self.now += Duration::from_secs_f64(1.0 / rate);
            let took = Duration::from_secs_f64(limit / rate);
            let dispatched = self.now - took;
            let mut sample = Sample::new(dispatched, self.now, outcome);
            sample.in_flight_at_dispatch = limit as usize;
            sample.in_flight = limit as usize - 1;
            sample.limit_reached = true;
            bdp.on_sample(&sample);
        }
    }

    fn succeed(&mut self, bdp: &mut Bdp, calls: usize) {
        // Time has to pass before dispatches lie after it.
        self.now += Duration::from_secs(10);
        self.finish(bdp, calls, Outcome::Success);
    }
}

#[test]
fn a_restart_goes_on_with_what_was_known() {
    let mut bdp = Bdp::new();
    assert_eq!(bdp.state(), None);
    let mut inner = Inner::new(64.0, 0.02);
    inner.succeed(&mut bdp, 10_000);
    let state = bdp.state().expect("known by now");
    assert!((64.0..96.0).contains(&state.limit), "{state:?}");
    assert!((3000.0..3400.0).contains(&state.throughput), "{state:?}");
    // The bounds may be set before or after.
    for mut bdp in [Bdp::new().max(500).resume(state), Bdp::new().resume(state).max(500)] {
        let mut inner = Inner::new(64.0, 0.02);
        for _ in 0..5000 {
            inner.finish(&mut bdp, 1, Outcome::Success);
            assert!((30.0..=130.0).contains(&bdp.limit()), "{}", bdp.limit());
        }
        let believed = bdp.state().expect("known by now").limit;
        assert!((60.0..=96.0).contains(&believed), "{believed}");
    }
    assert!(Bdp::new().resume(state).max(20).limit() <= 20.0);
}

#[test]
fn what_was_known_before_a_restart_is_not_trusted_blindly() {
    let state = LimitState::new(76.0, 3200.0, Duration::from_millis(20));
    for (servers, service) in [(8.0, 0.02), (256.0, 0.02), (64.0, 0.2), (64.0, 0.002)] {
        let mut bdp = Bdp::new().resume(state);
        let mut inner = Inner::new(servers, service);
        inner.finish(&mut bdp, 20_000, Outcome::Success);
        let believed = bdp.state().expect("known by now").limit;
        let knees = believed / servers;
        assert!((0.9..=1.6).contains(&knees), "{servers} × {service} s: {believed}");
    }
}

#[test]
fn a_state_that_cannot_be_is_ignored() {
    let second = Duration::from_secs(1);
    for (limit, throughput, service_time) in [
        (0.0, 1.0, second),
        (-1.0, 1.0, second),
        (f64::NAN, 1.0, second),
        (1.0, f64::INFINITY, second),
        (1.0, 0.0, second),
        (1.0, 1.0, Duration::ZERO),
    ] {
        let state = LimitState::new(limit, throughput, service_time);
        assert_eq!(Bdp::new().resume(state).limit(), Bdp::new().limit(), "{state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_returns_what_the_limit_has_learned() {
    let fixed = LoadLevelLayer::new(10, 5).handle();
    assert_eq!(fixed.limit_state(), None);
    let layer = LoadLevelLayer::builder().capacity(10_000).adaptive(Bdp::new()).build().unwrap();
    assert_eq!(layer.handle().limit_state(), None);
    let service = layer.layer(service_fn(|(): ()| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, Infallible>(())
    }));
    let calls = (0..5000).map(|_| service.clone().oneshot(()));
    futures::future::join_all(calls).await;
    // Nothing slows calls down, so the limit has only risen.
    assert_eq!(layer.handle().limit_state(), None);
    let state = LimitState::new(8.0, 800.0, Duration::from_millis(10));
    let layer = LoadLevelLayer::builder().adaptive(Bdp::new().resume(state)).build().unwrap();
    let handle = layer.handle();
    assert_eq!((handle.limit(), handle.limit_state()), (8, Some(state)));
}
