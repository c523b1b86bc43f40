//! Slots that are held to the end of response bodies, through HTTP servers and clients.
#![cfg(feature = "grpc")]

#[allow(dead_code, reason = "shared with the example")]
#[path = "../examples/tonic/greeter.rs"]
mod greeter;
mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future, stream};
use greeter::{GreeterClient, hello};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use support::{builder, rejection, sockets, wires};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, server::NamedService, service::LayerExt, transport::Server};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    Class, grpc,
    http::{BodyTooLong, BodyTooSlow, Hold, RejectionLayer},
};

const BODY: Duration = Duration::from_millis(500);

/// A time after which to retry, with `waiting` in front of two slots: within a factor of two, and
/// the spread of 20 % is part of it.
fn expected(waiting: u32) -> std::ops::RangeInclusive<Duration> {
    let drains = BODY * waiting / 2;
    drains / 2..=drains * 2
}

#[tokio::test(start_paused = true)]
async fn the_first_refusals_ever_say_how_long_the_bodies_in_front_take() {
    let _t = support::trace_init();
    for waiting in [6, 20] {
        let layer = builder(waiting as usize, 2).hold_until(Hold::BodyEnd).build().expect("valid");
        let handle = layer.handle();
        let probe = layer.layer(service_fn(async |()| Ok::<_, Infallible>(response())));
        fn response() -> Response<Body> {
            Response::new(Body::from_stream(
                sleep(BODY).map(|()| Ok::<_, Infallible>(Bytes::from("late"))).into_stream(),
            ))
        }
        let router = Router::new()
            .route("/", get(async || response()))
            .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer));
        let base = wires::serve(router);
        let client = wires::client();
        let send = || tokio::spawn(sockets::get(client.clone(), format!("{base}/")));
        let first: Vec<_> = (0..waiting + 2).map(|_| send()).collect();
        support::eventually("two bodies have ended", || handle.stats().succeeded == 2).await;
        let second = [send(), send()];
        support::eventually("the queue is full", || handle.stats().queued == waiting as usize)
            .await;
        assert_eq!(handle.stats().drain_rate, None, "not known yet");

        let after = rejection(probe.oneshot(()).await).retry_after().expect("known");
        assert!(expected(waiting).contains(&after), "{waiting} waiting: {after:?}");
        let refused = send().await.expect("no panic");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let seconds = refused.headers()[header::RETRY_AFTER].to_str().expect("text").parse();
        let after = Duration::from_secs(seconds.expect("a number"));
        assert!(expected(waiting).contains(&after), "{waiting} waiting: {after:?}");
        first.into_iter().chain(second).for_each(|request| request.abort());
    }
}

/// Answers at once with a head, and half a second later with an empty message.
#[derive(Clone)]
struct Late;

impl NamedService for Late {
    const NAME: &'static str = "greeter.Greeter";
}

impl<B> Service<Request<B>> for Late {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
        let frames = sleep(BODY).map(|()| stream::iter(frames.map(Ok::<_, Infallible>)));
        let body = StreamBody::new(frames.flatten_stream());
        let mut response = Response::new(tonic::body::Body::new(body.boxed_unsync()));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        future::ready(Ok(response))
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_pushbacks_ever_say_how_long_the_bodies_in_front_take() {
    let _t = support::trace_init();
    let layer = builder(6, 2)
        .response_classifier(grpc::ByStatus::new())
        .hold_until(Hold::BodyEnd)
        .build()
        .expect("valid");
    let handle = layer.handle();
    let late =
        ServiceBuilder::new().layer(grpc::RejectionLayer::new()).layer(layer).named_layer(Late);
    let channel = wires::serve_grpc(Server::builder().add_service(late)).await;
    let call = || {
        let mut client = GreeterClient::new(channel.clone());
        tokio::spawn(async move { client.say_hello(hello("")).await })
    };
    let first: Vec<_> = (0..8).map(|_| call()).collect();
    support::eventually("two bodies have ended", || handle.stats().succeeded == 2).await;
    let second = [call(), call()];
    support::eventually("the queue is full", || handle.stats().queued == 6).await;
    let refused = call().await.expect("no panic").expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable);
    let millis = refused.metadata().get("grpc-retry-pushback-ms").expect("known");
    let after = Duration::from_millis(millis.to_str().expect("text").parse().expect("a number"));
    assert!(expected(6).contains(&after), "{after:?}");
    first.into_iter().chain(second).for_each(|call| call.abort());
}

type Chunk = Result<Bytes, Infallible>;

fn endless() -> Body {
    Body::from_stream(stream::repeat_with(|| -> Chunk { Ok(Bytes::from_static(&[0; 16 << 10])) }))
}

/// Serves a short body, and one without an end.
macro_rules! serve_bodies {
    ($layer:expr) => {{
        let router = Router::new()
            .route("/short", get(async || "short"))
            .route("/endless", get(async || endless()))
            .layer(ServiceBuilder::new().layer(RejectionLayer::new()).layer($layer));
        wires::serve(router)
    }};
}

const KIB: u64 = 1 << 10;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Opens eight streams on one connection, and takes 16 KiB/s of each. Returns the readers, and a
/// client on the same connection.
async fn trickles(base: &str) -> (Vec<JoinHandle<BoxError>>, wires::Http) {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_stream_window_size(64 << 10)
        .http2_initial_connection_window_size(8 << 20)
        .build(wires::Connector);
    let read = async |mut body: hyper::body::Incoming| loop {
        match body.frame().await.expect("it has no end") {
            Ok(_) => sleep(Duration::from_secs(1)).await,
            Err(error) => return error.into(),
        }
    };
    let mut readers = Vec::new();
    for _ in 0..8 {
        let body = sockets::get(client.clone(), format!("{base}/endless")).await.into_body();
        readers.push(tokio::spawn(read(body)));
    }
    (readers, client)
}

#[tokio::test(start_paused = true)]
async fn trickles_are_cut_and_honest_requests_are_answered() {
    let _t = support::trace_init();
    let layer = builder(100, 8).hold_until(Hold::BodyEnd).body_idle(ms(500));
    let layer = layer.body_rate(64 * KIB).build().expect("valid");
    let handle = layer.handle();
    let base = serve_bodies!(layer);
    let (readers, client) = trickles(&base).await;
    let honest = (0..8).map(|_| sockets::get(client.clone(), format!("{base}/short")));
    let answers = timeout(Duration::from_secs(10), future::join_all(honest)).await;
    let answers = answers.expect("the trickles are cut");
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    for reader in readers {
        reader.await.expect("no panic");
    }
    support::eventually("all slots are free", || handle.stats().in_flight == 0).await;
    assert_eq!(handle.stats().cancelled, 8);
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_trickles_keep_their_slots() {
    let _t = support::trace_init();
    let layer = builder(100, 8).hold_until(Hold::BodyEnd).body_idle(ms(2000));
    let base = serve_bodies!(layer.build().expect("valid"));
    let (_readers, client) = trickles(&base).await;
    let honest = sockets::get(client, format!("{base}/short"));
    timeout(ms(3500), honest).await.expect_err("the control of the test above");
}

/// Reads 256 KiB/s over HTTP/1.1 for some seconds, in bursts, as a kernel with large buffers shows
/// the progress of a reader. Returns whether the body still goes on.
async fn reads_slowly(rate: Option<u64>) -> bool {
    let layer = builder(100, 1).hold_until(Hold::BodyEnd).body_idle(ms(400));
    let layer = match rate {
        Some(rate) => layer.body_rate(rate),
        None => layer,
    };
    let layer = layer.build().expect("valid");
    let handle = layer.handle();
    let base = serve_bodies!(layer);
    let mut reader = wires::connect(&base.parse().expect("a uri"));
    reader.write_all(b"GET /endless HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("it reads");
    let mut burst = vec![0; 256 << 10];
    for _ in 0..4 {
        if reader.read_exact(&mut burst).await.is_err() {
            break;
        }
        sleep(ms(1000)).await;
    }
    handle.stats().in_flight == 1
}

#[tokio::test(start_paused = true)]
async fn an_honest_slow_reader_passes_by_its_rate_and_not_by_silence() {
    let _t = support::trace_init();
    let (by_rate, by_silence) = tokio::join!(reads_slowly(Some(64 * KIB)), reads_slowly(None));
    assert!(by_rate, "256 KiB/s is more than 64");
    assert!(!by_silence, "the control: its progress is seen in bursts only");
}

/// A body of so many bytes every now and then.
fn events(every: Duration, size: usize) -> Body {
    Body::from_stream(stream::repeat(()).then(move |()| async move {
        sleep(every).await;
        Chunk::Ok(vec![0; size].into())
    }))
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reader_waits_for_events_goes_on_until_its_time_is_over() {
    let _t = support::trace_init();
    let layer = builder(1, 1).hold_until(Hold::BodyEnd);
    let layer = layer.body_idle(ms(500)).body_rate(64 * KIB).body_time(ms(60 * 60 * 1000));
    let layer = layer.build().expect("valid");
    let inner = service_fn(async |()| {
        Ok::<_, Infallible>(Response::new(events(Duration::from_secs(10), 20)))
    });
    let response = layer.layer(inner).oneshot(()).await.expect("served");
    let (mut body, began) = (response.into_body(), Instant::now());
    let error = loop {
        if let Err(error) = body.frame().await.expect("it has no end") {
            break error;
        }
    };
    assert!(error.is::<BodyTooLong>(), "{error}");
    assert!(began.elapsed().abs_diff(Duration::from_secs(60 * 60)) < ms(10));
    assert_eq!((layer.handle().stats().in_flight, layer.handle().stats().cancelled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reader_below_the_rate_is_told_so_and_the_default_grace_is_five_seconds() {
    let _t = support::trace_init();
    let layer = builder(1, 1).hold_until(Hold::BodyEnd).body_rate(16 * KIB);
    let layer = layer.build().expect("valid");
    let inner = service_fn(async |()| Ok::<_, Infallible>(Response::new(endless())));
    let response = layer.layer(inner).oneshot(()).await.expect("served");
    let (mut body, began) = (response.into_body(), Instant::now());
    body.frame().await.expect("a frame").expect("no error");
    support::eventually("it is cut", || layer.handle().stats().in_flight == 0).await;
    let cut = began.elapsed();
    assert!(cut.abs_diff(Duration::from_secs(6)) < ms(10), "5 s, and 1 s for 16 KiB: {cut:?}");
    let error = body.frame().await.expect("an error").expect_err("cut");
    assert!(error.is::<BodyTooSlow>(), "{error}");
    assert!(body.frame().await.is_none());
}

#[test]
fn limits_of_zero_are_errors() {
    let held = || builder(1, 1).hold_until(Hold::BodyEnd);
    let texts = [
        held().body_idle(Duration::ZERO).body_rate(1).build().expect_err("zero").to_string(),
        held().body_rate(0).build().expect_err("zero").to_string(),
        held().body_time(Duration::ZERO).body_idle(ms(1)).build().expect_err("zero").to_string(),
    ];
    for (text, name) in texts.iter().zip(["body_idle", "body_rate", "body_time"]) {
        assert!(text.contains(name), "{text}");
    }
    held().body_rate(0).body_rate(1).build().expect("the last counts");
}

#[tokio::test(start_paused = true)]
async fn beside_trickles_that_are_reopened_at_once_honest_peers_keep_their_share() {
    let _t = support::trace_init();
    const LIMIT: u64 = 8;
    const SECONDS: u64 = 120;
    const TRICKLE: u8 = 0;
    let layer = builder(1000, LIMIT as usize)
        .classify_request(|peer: &u8| Class::new().flow(*peer))
        .hold_until(Hold::BodyEnd)
        .body_idle(ms(500))
        .body_rate(64 * KIB)
        .build()
        .expect("valid");
    let inner = layer.layer(service_fn(async |peer: u8| {
        if peer == TRICKLE {
            return Ok::<_, Infallible>(Response::new(endless()));
        }
        sleep(ms(40)).await;
        Ok(Response::new(Body::from("short")))
    }));
    let served = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(SECONDS);
    for nth in 0..40 {
        let (inner, served) = (inner.clone(), Arc::clone(&served));
        // Eight trickles, and two honest peers with more to do than their share.
        let peer = [TRICKLE, 1, 2, 1, 2][nth % 5];
        tokio::spawn(async move {
            loop {
                let response = inner.clone().oneshot(peer).await.expect("served");
                if peer != TRICKLE {
                    response.into_body().collect().await.expect("a body");
                    served.fetch_add(1, SeqCst);
                    continue;
                }
                let mut body = response.into_body();
                while body.frame().await.is_some_and(|frame| frame.is_ok()) {
                    sleep(Duration::from_secs(1)).await;
                }
            }
        });
    }
    tokio::time::sleep_until(end).await;
    let share = LIMIT * SECONDS * 1000 / 40 * 2 / 3;
    let served = served.load(SeqCst);
    assert!(served * 10 >= share * 9, "{served} of {share}");
}
