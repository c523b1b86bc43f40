//! Manners for HTTP: refusals as answers, deadlines from headers, slots held to the end of a body.
#![cfg(feature = "http")]

mod support;

use std::{
    collections::HashSet,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use support::{builder, settle};
use tokio::{
    sync::mpsc,
    time::{Instant, advance},
};
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    Class, LoadLevelLayer, Priority,
    error::{Reason, Rejected},
    http::{
        ByStatus, ExtensionDeadline, HeaderDeadline, HeldBody, Hold, PlainText, ProblemJson,
        Refusal, RejectionBody, RejectionLayer, Waited,
    },
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

async fn text<B: Body<Error: std::fmt::Debug>>(answer: Response<B>) -> String {
    let body = answer.into_body().collect().await.expect("no error").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// Sends one request too many through the stack.
macro_rules! one_too_many {
    ($rejections:expr) => {{
        let layer = LoadLevelLayer::new(0, 1);
        let mut service = ServiceBuilder::new().layer($rejections).layer(layer).service(busy());
        let _running = task::spawn(service.call(get("/")));
        let Ok(answer): Result<Response<RejectionBody<Full<Bytes>>>, Infallible> =
            service.call(get("/")).await;
        answer
    }};
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_503_that_says_when_to_come_back_and_nothing_else() {
    let _t = support::trace_init();
    let answer = one_too_many!(RejectionLayer::new());
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let names: Vec<_> = answer.headers().keys().collect();
    assert_eq!(names, [header::RETRY_AFTER]);
    let after = answer.headers()[header::RETRY_AFTER].to_str().expect("ascii").parse::<u64>();
    assert!((1..=2).contains(&after.expect("whole seconds")));
    assert_eq!(text(answer).await, "");
}

#[tokio::test(start_paused = true)]
async fn what_a_refusal_says_can_be_chosen() {
    let _t = support::trace_init();
    let rejections = RejectionLayer::new()
        .status(Reason::Full, StatusCode::IM_A_TEAPOT)
        .reason_header(HeaderName::from_static("x-reason"))
        .body(PlainText);
    let answer = one_too_many!(rejections);
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(answer.headers()["x-reason"], "full");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let said = text(answer).await;
    assert!(said.starts_with("The service is overloaded. Try again in "), "{said}");
    assert!(said.ends_with(". Reason: the queue is full.\n"), "{said}");
}

/// A stack that refuses every request for this reason, to be retried in two seconds.
fn refuses_for(
    reason: Reason,
) -> impl Service<Request<()>, Response = Answer, Error = BoxError, Future: Send> + Clone {
    service_fn(move |_| async move { Err(Rejected::new(reason).with_retry_after(ms(2000)).into()) })
}

#[tokio::test(start_paused = true)]
async fn a_problem_says_what_to_do_and_the_reason_only_if_that_may_be_told() {
    let _t = support::trace_init();
    let answer = async |rejections: RejectionLayer<ProblemJson>| {
        let Ok(answer) = rejections.layer(refuses_for(Reason::Full)).oneshot(get("/")).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
        let problem = text(answer).await;
        let expected = concat!(
            r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
            r#""detail":"The service is overloaded. Try again in 2 seconds.","retry_after":2"#
        );
        problem.strip_prefix(expected).expect("the same for all").to_owned()
    };
    let rejections = || RejectionLayer::new().body(ProblemJson);
    assert_eq!(answer(rejections()).await, "}");
    assert_eq!(answer(rejections().tell_reason(true)).await, r#","reason":"full"}"#);
    let header = HeaderName::from_static("x-reason");
    assert_eq!(answer(rejections().reason_header(header)).await, r#","reason":"full"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_closure_makes_the_body_from_the_refusal_and_the_request() {
    let _t = support::trace_init();
    let rejections = RejectionLayer::new().body(|refusal: &Refusal<'_>, request: &Parts| {
        let after = refusal.retry_after().as_secs();
        match request.headers.get(header::ACCEPT).map(|accept| accept.as_bytes()) {
            Some(b"text/html") => {
                let mut response = Response::new(Full::from(format!("<p>busy for {after} s")));
                *response.status_mut() = StatusCode::IM_A_TEAPOT;
                let never = HeaderValue::from_static("99");
                response.headers_mut().insert(header::RETRY_AFTER, never);
                response
            }
            _ => refusal.problem_json(Some(request.uri.path())).map(Full::<Bytes>::from),
        }
    });
    let mut service = rejections.layer(refuses_for(Reason::MaxWait));
    let Ok(answer) = service.call(get("/orders?of=me")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
    assert!(text(answer).await.ends_with(r#","retry_after":2,"instance":"/orders"}"#));

    let mut request = get("/orders");
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    let Ok(answer) = service.call(request).await;
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT, "its own status counts");
    assert_eq!(answer.headers()[header::RETRY_AFTER], "99", "and its own headers");
    assert_eq!(text(answer).await, "<p>busy for 2 s");
}

#[tokio::test(start_paused = true)]
async fn a_handler_answers_a_rejection_without_the_layer() {
    let rejected = Rejected::new(Reason::Full).with_retry_after(ms(2000)).with_over_share(true);
    let answer = Refusal::new(&rejected).plain_text();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
    assert_eq!(answer.body(), "Too many requests. Try again in 2 seconds.\n");
    // With the settings of a layer.
    let rejections = RejectionLayer::new()
        .status(Reason::Full, StatusCode::IM_A_TEAPOT)
        .reason_header(HeaderName::from_static("x-reason"));
    let answer = rejections.refusal(&rejected).empty();
    assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(answer.headers()["x-reason"], "full");
    assert_eq!(answer.body(), "");
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_refusal_is_whole_and_so_is_that_of_the_inner() {
    let _t = support::trace_init();
    // The inner's passes through with its frames, trailers, length and error.
    let (feed, response) = stream(6);
    let mut response = Some(response);
    let inner = service_fn(move |_: Request<()>| {
        std::future::ready(response.take().ok_or_else(|| BoxError::from("called twice")))
    });
    let Ok(answer) = RejectionLayer::new().layer(inner).oneshot(get("/")).await;
    let mut body = answer.into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(6), false));
    feed.send(data("one")).expect("it is read");
    let frame = body.frame().await.expect("more").expect("no error");
    assert_eq!(frame.into_data().ok().as_deref(), Some(&b"one"[..]));
    feed.send(Ok(Frame::trailers(HeaderMap::new()))).expect("it is read");
    assert!(body.frame().await.expect("more").expect("no error").is_trailers());
    feed.send(Err("broken".into())).expect("it is read");
    assert_eq!(body.frame().await.expect("more").expect_err("it fails").to_string(), "broken");

    // That of an error too, of whatever type it is.
    let (feed, response) = stream(9);
    let response = std::sync::Arc::new(std::sync::Mutex::new(Some(response)));
    let on_error = move |_: BoxError| response.lock().unwrap().take().expect("one error");
    let fails = service_fn(|_: Request<()>| async { Err::<Answer, _>(BoxError::from("failed")) });
    let Ok(answer) = RejectionLayer::new().on_error(on_error).layer(fails).oneshot(get("/")).await;
    let mut body = answer.into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(9), false));
    feed.send(data("sorry")).expect("it is read");
    let frame = body.frame().await.expect("more").expect("no error");
    assert_eq!(frame.into_data().ok().as_deref(), Some(&b"sorry"[..]));
    drop(feed);
    assert!(body.frame().await.is_none());

    let answer = one_too_many!(RejectionLayer::new());
    let body = answer.into_body();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true), "no body");
    let answer = one_too_many!(RejectionLayer::new().body(PlainText));
    let body = answer.into_body();
    let length = body.size_hint().exact().expect("known, so it is sent");
    assert_eq!(body.collect().await.expect("no error").to_bytes().len() as u64, length);
}

#[tokio::test(start_paused = true)]
async fn every_reason_is_a_503_that_says_its_name_and_text() {
    let _t = support::trace_init();
    let rejections =
        RejectionLayer::new().reason_header(HeaderName::from_static("x-reason")).body(PlainText);
    let expected = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    for reason in Reason::ALL {
        for (over_share, status) in [false, true].into_iter().zip(expected) {
            let rejected = Rejected::new(*reason).with_retry_after(ms(90_000));
            let error: BoxError = rejected.with_over_share(over_share).into();
            let service = rejections.layer(refuses(error));
            let Ok(answer) = service.oneshot(get("/")).await;
            assert_eq!(answer.status(), status, "{reason}");
            assert_eq!(answer.headers()["x-reason"], reason.as_str());
            assert_eq!(answer.headers()[header::RETRY_AFTER], "90", "{reason}");
            let said = text(answer).await;
            assert!(
                said.ends_with(&format!(" Try again in 90 seconds. Reason: {reason}.\n")),
                "{said}"
            );
        }
    }
}

/// A test double of a stack that fails in this way, once.
fn refuses(
    error: BoxError,
) -> impl Service<Request<()>, Response = Answer, Error = BoxError, Future: Send> {
    let mut error = Some(error);
    service_fn(move |_| std::future::ready(Err(error.take().expect("called once"))))
}

#[tokio::test(start_paused = true)]
async fn those_refused_together_are_not_sent_back_together() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(0, 1);
    let mut service =
        ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer).service(busy());
    let _running = task::spawn(service.call(get("/")));
    let mut told = HashSet::new();
    for _ in 0..100 {
        let Ok(answer) = service.call(get("/")).await;
        told.insert(answer.headers()[header::RETRY_AFTER].clone());
    }
    assert!(told.len() > 1, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_has_used_up_its_share_is_told_so() {
    let _t = support::trace_init();
    let classify = |request: &Request<()>| Class::new().flow(request.uri().path());
    let layer = builder(3, 1).classify_request(classify).build().expect("valid");
    let mut service =
        ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer).service(busy());
    let _running = task::spawn(service.call(get("/greedy")));
    let mut greedy: Vec<_> = (0..3).map(|_| Box::pin(service.call(get("/greedy")))).collect();
    settle().await;
    let _modest = task::spawn(service.call(get("/modest")));
    settle().await;
    let Ok(evicted) = greedy.remove(0).await;
    assert_eq!(evicted.status(), StatusCode::TOO_MANY_REQUESTS);
    let Ok(refused) = service.call(get("/greedy")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_answered_without_details_or_as_the_user_says() {
    let _t = support::trace_init();
    let fails = service_fn(|_: Request<()>| async { Err::<Answer, _>(BoxError::from("secret")) });
    let stack = ServiceBuilder::new().layer(RejectionLayer::new());
    let service = stack.layer(LoadLevelLayer::new(1, 1)).service(fails);
    let Ok(answer) = service.oneshot(get("/")).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.headers().is_empty());
    assert_eq!(text(answer).await, "");

    let on_error = |error: BoxError| Answer::new(Full::from(error.to_string()));
    let stack = ServiceBuilder::new().layer(RejectionLayer::new().on_error(on_error));
    let service = stack.layer(LoadLevelLayer::new(1, 1)).service(fails);
    let Ok(answer) = service.oneshot(get("/")).await;
    assert_eq!(text(answer).await, "secret");

    // Beside bodies that hold slots.
    let on_error = |_| Response::new(HeldBody::new(Full::<Bytes>::from("sorry")));
    let stack = ServiceBuilder::new().layer(RejectionLayer::new().on_error(on_error));
    let layer = builder(1, 1).hold_until(Hold::BodyEnd).build().expect("valid");
    let Ok(answer) = stack.layer(layer).service(fails).oneshot(get("/")).await;
    assert_eq!(answer.into_body().collect().await.expect("no error").to_bytes(), "sorry");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_inside_another_error_and_a_failed_readiness_are_answered_too() {
    let _t = support::trace_init();

    #[derive(Debug)]
    struct Wrapped(BoxError);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }
    let mut service = ServiceBuilder::new()
        .layer(RejectionLayer::new())
        .map_err(Wrapped)
        .layer(LoadLevelLayer::new(0, 1))
        .service(busy());
    let _running = task::spawn(service.call(get("/")));
    let Ok(answer) = service.call(get("/")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);

    let mut full = LoadLevelLayer::new(0, 1).layer(busy());
    let _running = task::spawn(full.call(get("/")));
    let hands_back = service_fn(move |request| match full.clone().try_call(request) {
        Ok(call) => call.boxed(),
        Err(refused) => std::future::ready(Err(BoxError::from(refused))).boxed(),
    });
    let Ok(answer) = RejectionLayer::new().layer(hands_back).oneshot(get("/")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);

    /// Fails before it is called.
    struct Dead;
    impl Service<Request<()>> for Dead {
        type Response = Answer;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Answer, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("dead".into()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it is not ready")
        }
    }
    let mut service = RejectionLayer::new().layer(Dead);
    let Dead = service.get_mut();
    let Ok(answer) = service.oneshot(get("/")).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
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

/// A body that gives what the test sends, and then its end.
struct Stream {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>,
    size: SizeHint,
}

type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

impl Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.frames.poll_recv(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

fn stream(size: u64) -> (Feed, Response<Stream>) {
    let (feed, frames) = mpsc::unbounded_channel();
    (feed, Response::new(Stream { frames, size: SizeHint::with_exact(size) }))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
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

#[tokio::test(start_paused = true)]
async fn statuses_say_how_the_inner_is() {
    let _t = support::trace_init();
    let layer = builder(10, 1).response_classifier(ByStatus::new()).build().expect("valid");
    let inner = service_fn(|request: Request<()>| async move {
        let mut response = Answer::default();
        let status = request.uri().path()[1..].parse().expect("a status");
        *response.status_mut() = status;
        Ok::<_, BoxError>(response)
    });
    let mut service = layer.layer(inner);
    for uri in ["/200", "/404", "/500", "/503", "/429"] {
        service.call(get(uri)).await.expect("served");
    }
    let stats = layer.handle().stats();
    // What says nothing about load counts by its result, which is a response.
    assert_eq!((stats.succeeded, stats.failed, stats.overloaded), (3, 2, 2));
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
