//! Refusals and other errors as HTTP responses, and statuses as outcomes.
#![cfg(feature = "http")]

mod support;

use std::{
    collections::HashSet,
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts,
};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use support::{
    builder,
    fed_body::{data, stream},
    settle,
};
use tokio_test::task;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    Class, LoadLevelLayer,
    error::{Reason, Rejected},
    http::{
        ByStatus, HeldBody, Hold, PlainText, ProblemJson, Refusal, RejectionBody, RejectionLayer,
    },
};

type Answer = Response<Full<Bytes>>;

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
