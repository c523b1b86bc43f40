//! Slots held to the end of a response body.
#![cfg(feature = "http")]

mod support;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use support::{
    builder,
    fed_body::{data, stream},
    settle,
};
use tokio::time::advance;
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Class,
    http::{ByStatus, Hold},
};

type Answer = Response<Full<Bytes>>;

const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn get(uri: &str) -> Request<()> {
    Request::builder().uri(uri).body(()).expect("a request")
}

/// One call through a layer that holds slots, and the feed of its body.
macro_rules! held {
    ($layer:expr) => {{
        let (feed, response) = stream(6);
        let mut response = Some(response);
        let inner = tower::util::service_fn(move |_: Request<()>| {
            std::future::ready(response.take().ok_or_else(|| BoxError::from("called twice")))
        });
        // A `FnMut` is not a `Service` by itself, so it goes through a mutex of the layer.
        let response = $layer.layer(inner).oneshot(get("/")).await.expect("a response");
        (feed, response)
    }};
}

#[tokio::test(start_paused = true)]
async fn a_slot_comes_home_when_the_body_has_been_read() {
    let _t = support::trace_init();
    let layer = builder(10, 1).hold_until(Hold::BodyEnd).build().expect("valid");
    let (feed, response) = held!(layer);
    let in_flight = || layer.handle().stats().in_flight;
    let mut body = response.into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
    for text in ["one", "two"] {
        feed.send(data(text)).expect("it is read");
        let frame = body.frame().await.expect("more").expect("no error");
        assert_eq!(frame.into_data().ok().as_deref(), Some(text.as_bytes()));
        assert_eq!(in_flight(), 1);
    }
    advance(ms(500)).await;
    let trailers = HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static("late"))]);
    feed.send(Ok(Frame::trailers(trailers))).expect("it is read");
    let frame = body.frame().await.expect("more").expect("no error");
    assert_eq!(frame.trailers_ref().expect("trailers")[TIMEOUT], "late");
    assert_eq!(in_flight(), 1);
    drop(feed);
    assert!(body.frame().await.is_none());
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.succeeded, stats.failed), (0, 1, 0));
    assert!(stats.service_time.quantile(1.0) < Some(ms(1)), "measured to the head");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_or_is_dropped_gives_the_slot_back() {
    let _t = support::trace_init();
    let layer = builder(10, 1).hold_until(Hold::BodyEnd).build().expect("valid");
    let (feed, response) = held!(layer);
    feed.send(Err("broken".into())).expect("it is read");
    let mut body = response.into_body();
    let error = body.frame().await.expect("a frame").expect_err("it fails");
    assert_eq!(error.to_string(), "broken");
    let stats = layer.handle().stats();
    assert_eq!((stats.in_flight, stats.succeeded, stats.failed), (0, 0, 1));

    let (feed, response) = held!(layer);
    assert_eq!(layer.handle().stats().in_flight, 1);
    drop(response);
    assert!(feed.is_closed(), "the inner body is gone");
    assert_eq!(layer.handle().stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_half_way_is_a_cancelled_call() {
    let _t = support::trace_init();
    let cases: [(Option<u64>, &[&str], bool); 6] = [
        // Nobody asks for it, as for a `HEAD`.
        (None, &[], false),
        (None, &["one"], true),
        // All six bytes, or as many as the head says.
        (None, &["one", "two"], false),
        (Some(9), &["one", "two"], true),
        (Some(9), &["one", "two", "six"], false),
        (None, &["one", "trailers"], false),
    ];
    for (length, frames, is_cancelled) in cases {
        let layer = builder(10, 1).hold_until(Hold::BodyEnd).build().expect("valid");
        let inner = service_fn(move |_: Request<()>| async move {
            let (feed, mut response) = stream(6);
            for text in frames {
                let trailers = || Ok(Frame::trailers(HeaderMap::new()));
                let frame = if *text == "trailers" { trailers() } else { data(text) };
                feed.send(frame).expect("it is read");
            }
            if let Some(length) = length {
                response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
            Ok::<_, BoxError>(response)
        });
        let mut body = layer.layer(inner).oneshot(get("/")).await.expect("served").into_body();
        for _ in frames {
            body.frame().await.expect("a frame").expect("no error");
        }
        drop(body);
        let stats = layer.handle().stats();
        let counted = (stats.cancelled, stats.succeeded);
        let expected = if is_cancelled { (1, 0) } else { (0, 1) };
        assert_eq!(counted, expected, "{length:?} {frames:?}");
        assert!(stats.service_time.quantile(1.0).is_some(), "up to its head it was served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_leaves_what_its_head_has_said() {
    let _t = support::trace_init();
    for (status, overloaded) in [(StatusCode::OK, 0), (StatusCode::SERVICE_UNAVAILABLE, 1)] {
        let builder = builder(10, 1).response_classifier(ByStatus::new());
        let layer = builder.hold_until(Hold::BodyEnd).build().expect("valid");
        let inner = service_fn(move |_: Request<()>| async move {
            let (feed, mut response) = stream(6);
            feed.send(Err("broken".into())).expect("it is read");
            *response.status_mut() = status;
            Ok::<_, BoxError>(response)
        });
        let response = layer.layer(inner).oneshot(get("/")).await.expect("a response");
        response.into_body().collect().await.expect_err("it fails");
        let stats = layer.handle().stats();
        assert_eq!((stats.failed, stats.overloaded), (1, overloaded));
    }
}

#[tokio::test(start_paused = true)]
async fn without_body_end_and_without_a_body_no_slot_is_held() {
    let _t = support::trace_init();
    for hold in [Hold::Response, Hold::BodyEnd] {
        let layer = builder(10, 1).hold_until(hold).build().expect("valid");
        let empty = service_fn(|_: Request<()>| async {
            let mut response = Answer::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok::<_, BoxError>(response)
        });
        let response = layer.layer(empty).oneshot(get("/")).await.expect("a response");
        assert_eq!(layer.handle().stats().in_flight, 0, "{hold:?}");
        assert!(response.body().is_end_stream());
    }
    let layer = builder(10, 1).hold_until(Hold::Response).build().expect("valid");
    let (_feed, _response) = held!(layer);
    assert_eq!(layer.handle().stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_class_says_for_its_request_until_when_the_slot_is_kept() {
    let _t = support::trace_init();
    for execution in support::EXECUTIONS {
        for (by_default, path, holds) in [
            (Hold::BodyEnd, "/head", false),
            (Hold::BodyEnd, "/", true),
            (Hold::Response, "/body", true),
            (Hold::Response, "/", false),
            // The first of a tuple takes precedence.
            (Hold::Response, "/body-first", true),
        ] {
            let first = |request: &Request<()>| match request.uri().path() {
                "/head" => Class::new().hold(Hold::Response),
                "/body" | "/body-first" => Class::new().hold(Hold::BodyEnd),
                _ => Class::new(),
            };
            let second = |request: &Request<()>| match request.uri().path() {
                "/body-first" => Class::new().hold(Hold::Response),
                _ => Class::new(),
            };
            let layer = builder(10, 1)
                .execution(execution)
                .request_classifier((first, second))
                .hold_until(by_default)
                .build()
                .expect("valid");
            let handle = layer.handle();
            let inner = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(stream(6).1) });
            let mut service = layer.layer(inner);
            let direct = service.call(get(path)).await.expect("a response");
            assert_eq!(handle.stats().in_flight, usize::from(holds), "{by_default:?} {path}");
            drop(direct);
            // And from the queue.
            handle.pause();
            let mut queued = task::spawn(service.call(get(path)));
            assert!(queued.poll().is_pending());
            handle.resume();
            let queued = queued.await.expect("a response");
            assert_eq!(handle.stats().in_flight, usize::from(holds), "{by_default:?} {path}");
            drop(queued);
            assert_eq!(handle.stats().in_flight, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_hold_counts() {
    let _t = support::trace_init();
    let builder = || builder(10, 1).hold_until(Hold::BodyEnd).body_idle(ms(50)).server_timing();
    let layer = builder().hold_until(Hold::Response).build().expect("valid");
    let (_feed, _response) = held!(layer);
    assert_eq!(layer.handle().stats().in_flight, 0);

    let layer = builder().hold_until(Hold::BodyEnd).build().expect("valid");
    let (_feed, _response) = held!(layer);
    assert_eq!(layer.handle().stats().in_flight, 1);
    tokio::time::sleep(ms(101)).await;
    assert_eq!(layer.handle().stats().in_flight, 0, "cut, since nobody reads it");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_cut() {
    let _t = support::trace_init();
    let layer =
        builder(10, 1).hold_until(Hold::BodyEnd).body_idle(ms(1000)).build().expect("valid");
    let (feed, response) = held!(layer);
    let mut body = response.into_body();
    feed.send(data("one")).expect("it is read");
    body.frame().await.expect("a frame").expect("no error");
    // Its reader waits for more: it is not idle, however long that takes.
    let mut waiting = task::spawn(body.frame());
    assert!(waiting.poll().is_pending());
    drop(waiting);
    tokio::time::sleep(ms(5000)).await;
    assert_eq!(layer.handle().stats().in_flight, 1);
    feed.send(data("2")).expect("it is read");
    body.frame().await.expect("a frame").expect("no error");
    tokio::time::sleep(ms(2001)).await;
    assert_eq!(layer.handle().stats().in_flight, 0, "the slot is free");
    assert!(feed.is_closed(), "the inner body is gone");
    assert_eq!(layer.handle().stats().cancelled, 1);
    assert!(!body.is_end_stream());
    let error = body.frame().await.expect("a frame").expect_err("not as if that were all");
    assert!(error.is::<tower_load_leveling::http::BodyIdle>());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_reader_does_not_come_back_for_it_is_cut() {
    let _t = support::trace_init();
    let layer = builder(10, 1).hold_until(Hold::BodyEnd).body_idle(ms(50)).build().expect("valid");
    let (feed, response) = held!(layer);
    let mut body = response.into_body();
    let mut patience = task::spawn(tokio::time::timeout(ms(10), body.frame()));
    assert!(patience.poll().is_pending());
    feed.send(data("one")).expect("it waits");
    assert!(patience.is_woken(), "it should be told");
    drop(patience);
    tokio::time::sleep(ms(101)).await;
    assert_eq!(layer.handle().stats().in_flight, 0);
    assert!(feed.is_closed());
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn nothing_watches_a_body_after_its_end_or_for_ever() {
    let _t = support::trace_init();
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let builder = || builder(10, 2).hold_until(Hold::BodyEnd);
    let layer = builder().body_idle(ms(3_600_000)).build().expect("valid");
    let (_feed, kept) = held!(layer);
    settle().await;
    let watched = alive();
    for _ in 0..10 {
        let (feed, response) = held!(layer);
        feed.send(data("one")).expect("it is read");
        drop(feed);
        response.into_body().collect().await.expect("all of it");
        let (feed, response) = held!(layer);
        feed.send(Err("broken".into())).expect("it is read");
        response.into_body().collect().await.expect_err("it fails");
        drop(held!(layer));
    }
    settle().await;
    assert_eq!(alive(), watched);
    drop(kept);
    settle().await;
    assert_eq!(alive(), watched - 1, "there was one");

    let layer = builder().body_idle(Duration::MAX).build().expect("valid");
    let (_feed, _kept) = held!(layer);
    settle().await;
    assert_eq!(alive(), watched, "with the drain task of the second layer");
}

/// A body that cannot even be asked.
struct Panics;

impl Body for Panics {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        unreachable!("it is never read")
    }

    fn is_end_stream(&self) -> bool {
        panic!("the body panics")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_response_is_handed_on_reaches_its_caller_only() {
    let _t = support::trace_init();
    for execution in support::EXECUTIONS {
        let builder = builder(10, 1).execution(execution).hold_until(Hold::BodyEnd);
        let layer = builder.build().expect("valid");
        let inner = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(Panics)) });
        let call = tokio::spawn(layer.layer(inner).oneshot(get("/")));
        assert!(call.await.expect_err("it panics").is_panic());
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, stats.panicked, stats.failed), (0, 1, 0), "{execution:?}");
    }
}
