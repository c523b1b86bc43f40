//! A leveler that is switched off by configuration: calls pass straight through.
#![cfg(feature = "http")]

mod support;

use std::time::Duration;

use axum::{Router, body::Body, routing::get};
use http::{Request, Response};
use support::{builder, gate::Gate, settle};
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    Abandon, Class, LoadLevelLayer, Order, Overflow,
    http::{ByStatus, Hold, RejectionLayer},
    settings::Settings,
};

#[tokio::test(start_paused = true)]
async fn nothing_is_limited_refused_classified_or_late() {
    let _t = support::trace_init();
    for overflow in [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest] {
        let gate = Gate::new();
        let layer = builder(0, 1)
            .enabled(false)
            .overflow(overflow)
            .rate(1, Duration::from_secs(60))
            .max_wait(Duration::from_millis(1))
            .abandon(Abandon::Finish)
            .bypass_limit(0)
            .flow_limit(1)
            .classify_request(|_: &u32| -> Class { panic!("nobody asks") })
            .build()
            .expect("valid");
        let mut service = layer.layer(gate.service());
        let mut calls = Vec::new();
        for id in 0..100 {
            let service = service.ready().await.expect("always");
            let mut call = task::spawn(service.call(id));
            assert!(call.poll().is_pending());
            calls.push(call);
        }
        assert_eq!((gate.peak(), layer.handle().stats().in_flight), (100, 100), "{overflow:?}");
        // As without the layer, a dropped call is cancelled.
        drop(calls.pop());
        settle().await;
        assert_eq!(gate.dropped(), [99]);
        gate.finish_all();
        for call in calls {
            call.await.expect("served");
        }
        let stats = layer.handle().stats();
        assert_eq!((stats.succeeded, stats.cancelled, stats.refused.total()), (99, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_inner_that_is_not_ready_is_waited_for_however_long_that_takes() {
    let _t = support::trace_init();
    let (gate, door) = (Gate::open(), support::gate::Door::shut());
    let off = builder(0, 1).enabled(false).max_wait(Duration::from_millis(1));
    let layer = off.build().expect("valid");
    let mut service = layer.layer(gate.service_behind(&door));
    let calls: Vec<_> = (0..10).map(|id| tokio::spawn(service.call(id))).collect();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    door.open();
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_held_for_a_body_and_the_types_stay_the_same() {
    let _t = support::trace_init();
    // One type, on or off: what `option_layer` cannot give, as the stack changes the response.
    let app = |is_on: bool| -> (Router, tower_load_leveling::Handle) {
        let leveler = builder(0, 1)
            .enabled(is_on)
            .classify_request(|_: &Request<Body>| Class::new().hold(Hold::BodyEnd))
            .response_classifier(ByStatus::new())
            .hold_until(Hold::BodyEnd)
            .body_idle(Duration::from_secs(1))
            .build()
            .expect("valid");
        let handle = leveler.handle();
        let stack = ServiceBuilder::new().layer(RejectionLayer::new()).layer(leveler);
        let endless = async || {
            Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, BoxError>>())
        };
        (Router::new().route("/", get(endless)).layer(stack), handle)
    };
    for (is_on, held) in [(true, 1), (false, 0)] {
        let (app, handle) = app(is_on);
        let Ok(response) = app.oneshot(Request::new(Body::empty())).await;
        assert_eq!(handle.stats().in_flight, held, "{is_on}");
        drop::<Response<Body>>(response);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_nothing_but_shuts_down() {
    let _t = support::trace_init();
    let mut settings = Settings::default();
    settings.enabled = false;
    settings.capacity = 7;
    settings.concurrency = Some(3.into());
    settings.order = Order::Lifo;
    let layer = LoadLevelLayer::builder().settings(settings.clone()).build().expect("valid");
    let handle = layer.handle();
    assert!(!handle.is_enabled());
    assert_eq!(handle.settings(), settings, "as they were given");

    handle.pause();
    handle.set_limit(1).expect("valid");
    handle.set_limit(0).expect_err("as ever");
    handle.set_capacity(0);
    handle.set_max_wait(Some(Duration::ZERO));
    handle.set_rate(Some((1, Duration::from_secs(60)))).expect("valid");
    handle.set_bypass_limit(0);
    handle.set_flow_limit(1).expect("valid");
    assert!(!handle.resume_adaptive());
    let mut on = settings.clone();
    on.enabled = true;
    on.capacity = 8;
    assert_eq!(handle.apply(&on).expect("valid"), ["enabled", "capacity"]);
    assert_eq!(handle.settings(), settings);

    let gate = Gate::new();
    let mut service = layer.layer(gate.service());
    let calls: Vec<_> = (0..10).map(|id| tokio::spawn(service.call(id))).collect();
    settle().await;
    assert_eq!(gate.running(), 10);
    let drain = tokio::spawn(async move { handle.drain(Duration::from_secs(60)).await });
    settle().await;
    assert!(service.call(11).await.is_err(), "newcomers are refused, as the shutdown needs it");
    gate.finish_all();
    assert_eq!(drain.await.expect("no panic").finished, 10);
    for call in calls {
        call.await.expect("no panic").expect("served");
    }
}

#[test]
fn the_other_settings_are_checked_all_the_same() {
    let error = LoadLevelLayer::builder().enabled(false).build().expect_err("no limit");
    assert_eq!(error.setting(), "concurrency");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_leveler_is_switched_off_too() {
    let layer = builder(0, 1).enabled(false).build().expect("valid").fresh();
    assert!(!layer.handle().is_enabled());
    let mut service =
        layer.layer(service_fn(|_: ()| std::future::pending::<Result<(), BoxError>>()));
    let calls: Vec<_> = (0..10).map(|_| task::spawn(service.call(()))).collect();
    assert_eq!(layer.handle().stats().in_flight, calls.len());
}
