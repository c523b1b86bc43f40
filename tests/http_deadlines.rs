//! Deadlines from HTTP headers, and the wait told to the inner and to the client.
#![cfg(feature = "http")]

mod support;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use support::{builder, settle};
use tokio::{
    sync::mpsc,
    time::{Instant, advance},
};
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{
    Class, Priority,
    error::Reason,
    http::{ExtensionDeadline, HeaderDeadline, Waited},
};

type Answer = Response<Full<Bytes>>;

const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Never answers.
fn busy() -> impl Service<Request<()>, Response = Answer, Error = BoxError, Future: Send> + Clone {
    service_fn(|_: Request<()>| std::future::pending())
}

fn get(uri: &str) -> Request<()> {
    Request::builder().uri(uri).body(()).expect("a request")
}

#[tokio::test(start_paused = true)]
async fn deadlines_come_from_headers_and_extensions_and_compose() {
    let _t = support::trace_init();
    let deadline = HeaderDeadline::millis(TIMEOUT).at_most(ms(1000)).by_default(ms(300));
    let priority = |request: &Request<()>| match request.uri().path() {
        "/urgent" => Class::new().priority(Priority::High),
        _ => Class::new(),
    };
    let layer = builder(100, 1)
        .request_classifier((priority, deadline, ExtensionDeadline::new()))
        .build()
        .expect("valid");
    let mut service = layer.layer(busy());
    let _running = task::spawn(service.call(get("/")));
    let request = |timeout: Option<&'static str>, left: Option<u64>| {
        let mut request = get("/urgent");
        if let Some(timeout) = timeout {
            request.headers_mut().insert(TIMEOUT, HeaderValue::from_static(timeout));
        }
        if let Some(left) = left {
            request.extensions_mut().insert(Instant::now() + ms(left));
        }
        request
    };
    for (timeout, left, waits) in [
        (Some("40"), None, 40),
        (Some("9999999"), None, 1000),
        (Some("99999999999999999999999"), None, 1000),
        (None, None, 300),
        (None, Some(70), 70),
        (Some("40"), Some(70), 40),
        // As computed elsewhere.
        (Some("40.00000000000006"), None, 40),
        (Some("0.0000001"), None, 0),
        // None of these is a time, and none means for ever.
        (Some("0"), None, 300),
        (Some("-5"), None, 300),
        (Some("soon"), None, 300),
    ] {
        let start = Instant::now();
        let waiting = service.call(request(timeout, left));
        assert_eq!(layer.handle().stats().priority(Priority::High).queued, 1);
        assert_eq!(support::reason(waiting.await.map(drop)), Reason::Deadline);
        let waited = start.elapsed();
        assert!((ms(waits)..=ms(waits + 2)).contains(&waited), "{timeout:?} {left:?}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_or_a_default_of_zero_is_none() {
    let _t = support::trace_init();
    let zero = Duration::ZERO;
    let deadline = HeaderDeadline::millis(TIMEOUT).at_most(ms(5)).by_default(ms(5));
    let layer = builder(1, 1).request_classifier(deadline.at_most(zero).by_default(zero));
    let layer = layer.build().expect("valid");
    let mut service = layer.layer(busy());
    let _running = task::spawn(service.call(get("/")));
    let mut waiting = task::spawn(service.call(get("/")));
    advance(ms(60_000)).await;
    assert!(waiting.poll().is_pending(), "nobody set a deadline");
    drop(waiting);
    let mut request = get("/");
    request.headers_mut().insert(TIMEOUT, HeaderValue::from_static("40"));
    let start = Instant::now();
    assert_eq!(support::reason(service.call(request).await.map(drop)), Reason::Deadline);
    assert!((ms(40)..=ms(42)).contains(&start.elapsed()), "its own counts");
}

#[tokio::test(start_paused = true)]
async fn of_two_headers_the_earlier_deadline_counts() {
    let _t = support::trace_init();
    let seconds = HeaderDeadline::seconds(HeaderName::from_static("x-timeout"));
    let both = (HeaderDeadline::millis(TIMEOUT), seconds, ExtensionDeadline::new());
    let layer = builder(1, 1).request_classifier(both).build().expect("valid");
    let mut service = layer.layer(busy());
    let _running = task::spawn(service.call(get("/")));
    for (millis, seconds, waits) in [("40", "1", 40), ("2000", "1", 1000), ("soon", "2", 2000)] {
        let mut request = get("/");
        request.headers_mut().insert(TIMEOUT, HeaderValue::from_static(millis));
        request.headers_mut().insert("x-timeout", HeaderValue::from_static(seconds));
        let start = Instant::now();
        assert_eq!(support::reason(service.call(request).await.map(drop)), Reason::Deadline);
        let waited = start.elapsed();
        assert!((ms(waits)..=ms(waits + 2)).contains(&waited), "{millis} {seconds}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_told_inside_and_outside_when_asked_for() {
    let _t = support::trace_init();
    let (tell, mut told) = mpsc::unbounded_channel();
    let inner = service_fn(move |request: Request<()>| {
        tell.send(request.extensions().get::<Waited>().copied()).expect("the test listens");
        async {
            tokio::time::sleep(ms(30)).await;
            Ok::<_, BoxError>(Answer::default())
        }
    });
    let layer = builder(10, 1).record_wait().server_timing().build().expect("valid");
    let mut service = layer.layer(inner);
    let (first, second) = (service.call(get("/")), service.call(get("/")));
    let (first, second) = tokio::join!(first, second);
    let waited = [told.recv().await, told.recv().await].map(Option::flatten);
    let [Some(Waited(none)), Some(Waited(some))] = waited else { panic!("{waited:?}") };
    assert!(none.is_zero() && (ms(30)..=ms(31)).contains(&some), "{waited:?}");
    let timing = |answer: Result<Answer, BoxError>| {
        let answer = answer.expect("served");
        answer.headers()["server-timing"].to_str().expect("ascii").to_owned()
    };
    assert_eq!(timing(first), "queue;dur=0.000");
    assert!(timing(second).starts_with("queue;dur=3"), "some 30 ms");
}

#[tokio::test(start_paused = true)]
async fn a_response_with_all_headers_there_can_be_goes_without_its_wait() {
    let _t = support::trace_init();
    let inner = service_fn(|_: Request<()>| async {
        let mut answer = Answer::default();
        for n in 0.. {
            let name = HeaderName::try_from(format!("h{n}")).expect("a name");
            if answer.headers_mut().try_append(name, HeaderValue::from_static("v")).is_err() {
                break;
            }
        }
        Ok::<_, BoxError>(answer)
    });
    let layer = builder(10, 1).server_timing().build().expect("valid");
    let answer = layer.layer(inner).oneshot(get("/")).await.expect("served");
    assert!(!answer.headers().contains_key("server-timing"));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_told_its_wait_once_however_often_its_inner_was_asked() {
    let _t = support::trace_init();
    let door = support::gate::Door::shut();
    let readiness = support::gate::Gate::open().service_behind(&door);
    let (tell, mut told) = mpsc::unbounded_channel();
    let inner = Behind(readiness, tell);
    let layer = builder(10, 1).record_wait().build().expect("valid");
    let mut service = layer.layer(inner);
    let call = tokio::spawn(service.call(get("/")));
    settle().await;
    door.close();
    tokio::time::sleep(ms(20)).await;
    door.open();
    call.await.expect("no panic").expect("served");
    let Some(Some(Waited(waited))) = told.recv().await else { panic!("it should be told") };
    assert!((ms(20)..=ms(21)).contains(&waited), "{waited:?}");
}

/// Ready when a gate is.
struct Behind(support::gate::GateService, mpsc::UnboundedSender<Option<Waited>>);

impl Service<Request<()>> for Behind {
    type Response = Answer;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Answer, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        drop(self.0.call(0));
        self.1.send(request.extensions().get().copied()).expect("the test listens");
        std::future::ready(Ok(Answer::default()))
    }
}
