//! The policy for `tower::retry`: around levelers in this process, and around real clients.
#![cfg(all(feature = "grpc", feature = "retry"))]

#[path = "../examples/tonic/greeter.rs"]
#[allow(dead_code, reason = "it is an example")]
mod greeter;
mod support;

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicIsize, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::any};
use bytes::Bytes;
use futures::future::join_all;
use greeter::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use support::{builder, gate::Gate};
use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, retry::budget::Budget, service_fn};
use tower_load_leveling::{
    LoadLevelLayer,
    error::{Reason, Rejected},
    grpc,
    http::RejectionLayer,
    retry::{Advice, RetryPolicy, clone_without_body},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Rejects so many calls in this way, and counts all.
#[derive(Clone)]
struct Rejects {
    left: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    rejected: Rejected,
}

impl Rejects {
    fn times(left: usize, rejected: Rejected) -> Self {
        let (left, calls) = (Arc::new(AtomicUsize::new(left)), Arc::default());
        Self { left, calls, rejected }
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn service<Req: Send + 'static>(
        &self,
    ) -> impl Service<Req, Response = Req, Error = BoxError, Future: Send> + Clone {
        let this = self.clone();
        service_fn(move |request| {
            this.calls.fetch_add(1, SeqCst);
            let less = |left: usize| left.checked_sub(1);
            let is_rejected = this.left.fetch_update(SeqCst, SeqCst, less).is_ok();
            let rejected = this.rejected.clone();
            async move { if is_rejected { Err(rejected.into()) } else { Ok(request) } }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_repeated_when_the_rejection_says() {
    let _t = support::trace_init();
    let inner = Rejects::times(2, Rejected::new(Reason::Full).with_retry_after(ms(700)));
    let service = ServiceBuilder::new().retry(RetryPolicy::new()).service(inner.service());
    let start = Instant::now();
    assert_eq!(service.oneshot(7).await.expect("the third attempt"), 7);
    assert_eq!((start.elapsed(), inner.calls()), (ms(1400), 3));
}

#[tokio::test(start_paused = true)]
async fn without_a_time_it_backs_off() {
    let _t = support::trace_init();
    let inner = Rejects::times(2, Rejected::new(Reason::Full));
    let policy = RetryPolicy::new().backoff(ms(100));
    let service = ServiceBuilder::new().retry(policy).service(inner.service());
    let start = Instant::now();
    service.oneshot(7).await.expect("the third attempt");
    // From 50 to 100 ms, and from 100 to 200.
    assert!((ms(150)..=ms(302)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn attempts_and_delays_are_bounded_and_the_caller_gets_the_rejection() {
    let _t = support::trace_init();
    for (after, attempts, calls) in [(700, 3, 3), (700, 1, 1), (700, 0, 1), (60_001, 3, 1)] {
        let inner = Rejects::times(9, Rejected::new(Reason::Full).with_retry_after(ms(after)));
        let policy = RetryPolicy::new().max_attempts(attempts);
        let service = ServiceBuilder::new().retry(policy).service(inner.service());
        assert_eq!(support::reason(service.oneshot(7).await), Reason::Full);
        assert_eq!(inner.calls(), calls, "{after} {attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_succeed_and_what_is_no_refusal_is_not_repeated() {
    let _t = support::trace_init();
    for reason in [Reason::Closed, Reason::NoRuntime, Reason::Deadline, Reason::WouldMissDeadline] {
        let inner = Rejects::times(9, Rejected::new(reason));
        let service = ServiceBuilder::new().retry(RetryPolicy::new()).service(inner.service());
        assert_eq!(support::reason(service.oneshot(7).await), reason);
        assert_eq!(inner.calls(), 1, "{reason}");
    }
    let calls = AtomicUsize::new(0);
    let fails = service_fn(|_: u32| {
        calls.fetch_add(1, SeqCst);
        async { Err::<(), BoxError>("lost".into()) }
    });
    let service = ServiceBuilder::new().retry(RetryPolicy::new()).service(fails);
    service.oneshot(7).await.expect_err("as it came");
    assert_eq!(calls.into_inner(), 1);
}

/// So many retries for all.
struct Only(AtomicIsize);

impl Budget for Only {
    fn deposit(&self) {}

    fn withdraw(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) > 0
    }
}

#[tokio::test(start_paused = true)]
async fn all_calls_share_one_budget() {
    let _t = support::trace_init();
    let rejected = || Rejected::new(Reason::Full).with_retry_after(ms(1));
    let inner = Rejects::times(usize::MAX, rejected());
    let policy = RetryPolicy::new().budget(Only(5.into()));
    let service = ServiceBuilder::new().retry(policy).service(inner.service());
    join_all((0..100).map(|n| service.clone().oneshot(n))).await;
    assert_eq!(inner.calls(), 100 + 5);

    // By default 100 at first, and a fifth of the successes.
    let inner = Rejects::times(usize::MAX, rejected());
    let service = ServiceBuilder::new().retry(RetryPolicy::new()).service(inner.service());
    join_all((0..1000).map(|n| service.clone().oneshot(n))).await;
    assert_eq!(inner.calls(), 1000 + 100);
    inner.left.store(0, SeqCst);
    join_all((0..1000).map(|n| service.clone().oneshot(n))).await;
    inner.left.store(usize::MAX, SeqCst);
    inner.calls.store(0, SeqCst);
    join_all((0..1000).map(|n| service.clone().oneshot(n))).await;
    assert_eq!(inner.calls(), 1000 + 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_can_not_be_cloned_is_sent_once() {
    let _t = support::trace_init();
    let rejected = Rejected::new(Reason::Full).with_retry_after(ms(1));
    let stack = ServiceBuilder::new().retry(RetryPolicy::new().clone_with(clone_without_body));
    for (body, calls) in [(Body::empty(), 3), (Body::from("text"), 1)] {
        let inner = Rejects::times(9, rejected.clone());
        let answer = stack.clone().service(inner.service()).oneshot(Request::new(body)).await;
        answer.expect_err("rejected");
        assert_eq!(inner.calls(), calls);
    }
    // Not even `Clone`.
    struct Once;
    let stack = ServiceBuilder::new().retry(RetryPolicy::new().clone_with(|_: &Once| None));
    let inner = Rejects::times(1, rejected);
    assert!(stack.service(inner.service()).oneshot(Once).await.is_err());
    assert_eq!(inner.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_a_leveler_refuses_is_served_in_the_end() {
    let _t = support::trace_init();
    let layer = LoadLevelLayer::new(8, 4);
    let handle = layer.handle();
    let inner = service_fn(async |n: u32| {
        tokio::time::sleep(ms(20)).await;
        Ok::<_, BoxError>(n)
    });
    let policy = RetryPolicy::new().max_attempts(50);
    let service = ServiceBuilder::new().retry(policy).layer(layer).service(inner);
    let answers = join_all((0..40).map(|n| service.clone().oneshot(n))).await;
    assert!(answers.iter().all(Result::is_ok));
    let stats = handle.stats();
    assert_eq!(stats.succeeded, 40);
    assert!(stats.refused.full > 0);
}

/// A server that refuses its first requests with these heads, and counts all.
async fn refusing(heads: Vec<Response<()>>) -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let answer = async move |body: Bytes| match heads.get(counted.fetch_add(1, SeqCst)) {
        Some(head) => head.clone().map(|()| Body::from("busy")),
        None => Response::new(Body::from(body)),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}/", listener.local_addr().expect("bound"));
    let app = Router::new().route("/", any(answer));
    tokio::spawn(axum::serve(listener, app).into_future());
    (base, requests)
}

fn refusal(status: StatusCode, after: Option<&'static str>) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    if let Some(after) = after {
        head.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(after));
    }
    head
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn clients() -> [(&'static str, Http); 2] {
    let client = |h2| Client::builder(TokioExecutor::new()).http2_only(h2).build_http();
    [("HTTP/1.1", client(false)), ("HTTP/2", client(true))]
}

#[tokio::test]
async fn a_client_repeats_what_a_server_refuses_when_the_header_says() {
    let _t = support::trace_init();
    let told = async |(protocol, client): (&str, Http)| {
        let (base, requests) =
            refusing(vec![refusal(StatusCode::SERVICE_UNAVAILABLE, Some("1"))]).await;
        // In front of it a leveler, as a client has one.
        let client = ServiceBuilder::new()
            .retry(RetryPolicy::new().http())
            .layer(LoadLevelLayer::new(8, 4))
            .service(client);
        let request = Request::post(base).body(Full::from("order")).expect("valid");
        let start = std::time::Instant::now();
        let response = client.oneshot(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK, "{protocol}");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, "order", "{protocol}: the second request is the first one");
        assert_eq!(requests.load(SeqCst), 2, "{protocol}");
        assert!(start.elapsed() >= ms(1000), "{protocol}: no sooner than it was told");
    };
    join_all(clients().map(told)).await;
}

#[tokio::test]
async fn without_a_time_only_requests_that_may_be_repeated_are() {
    let _t = support::trace_init();
    for (protocol, client) in clients() {
        for (method, is_retried) in
            [(Method::GET, true), (Method::PUT, true), (Method::POST, false)]
        {
            let (base, requests) =
                refusing(vec![refusal(StatusCode::SERVICE_UNAVAILABLE, None)]).await;
            let policy = RetryPolicy::new().http().backoff(ms(1));
            let client = ServiceBuilder::new().retry(policy).service(client.clone());
            let request = Request::builder().method(&method).uri(base).body(Full::default());
            let response = client.oneshot(request.expect("valid")).await.expect("a response");
            assert_eq!(response.status() == StatusCode::OK, is_retried, "{protocol} {method}");
            assert_eq!(requests.load(SeqCst), if is_retried { 2 } else { 1 });
        }
    }
}

#[tokio::test]
async fn reqwest_repeats_what_is_refused() {
    let _t = support::trace_init();
    let heads = vec![refusal(StatusCode::TOO_MANY_REQUESTS, Some("0")); 2];
    let (base, requests) = refusing(heads).await;
    let policy = RetryPolicy::new().backoff(ms(1)).clone_with(reqwest::Request::try_clone).advice(
        |_: &reqwest::Request, result: Result<&reqwest::Response, &BoxError>| {
            let response = result.ok()?;
            Advice::from_http(response.status(), response.headers())
        },
    );
    let client = ServiceBuilder::new()
        .retry(policy)
        .layer(LoadLevelLayer::new(8, 4))
        .service(reqwest::Client::new());
    let request = reqwest::Client::new().post(base).body("order").build().expect("valid");
    let response = client.oneshot(request).await.expect("a response");
    assert_eq!((response.status(), requests.load(SeqCst)), (StatusCode::OK, 3));
    assert_eq!(response.text().await.expect("a body"), "order");
}

#[tokio::test]
async fn what_our_own_layer_refuses_is_repeated() {
    let _t = support::trace_init();
    for (protocol, client) in clients() {
        let gate = Gate::new();
        let (leveler, held) = (LoadLevelLayer::new(0, 1), gate.clone());
        let handle = leveler.handle();
        let handler = async move || held.service().oneshot(1).await.map(drop).expect("it succeeds");
        let rejections = RejectionLayer::new();
        let app = Router::new()
            .route("/", any(handler))
            .layer(ServiceBuilder::new().layer(rejections).layer(leveler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}/", listener.local_addr().expect("bound"));
        tokio::spawn(axum::serve(listener, app).into_future());

        let policy = RetryPolicy::new().http().max_attempts(50);
        let client = ServiceBuilder::new().retry(policy).service(client);
        let send = || {
            let request = Request::post(&base).body(Full::default()).expect("valid");
            let call = client.clone().oneshot(request);
            tokio::spawn(async move { call.await.expect("a response").status() })
        };
        let first = send();
        support::eventually("it runs", || gate.running() == 1).await;
        let second = send();
        support::eventually("it is refused", || handle.stats().refused.full > 0).await;
        gate.finish_all();
        assert_eq!(first.await.expect("no panic"), StatusCode::OK, "{protocol}");
        assert_eq!(second.await.expect("no panic"), StatusCode::OK, "{protocol}");
    }
}

/// Greets when told to.
struct Gated(Gate);

impl Greeter for Gated {
    async fn say_hello(&self, request: HelloRequest) -> Result<HelloReply, Status> {
        match self.0.service().oneshot(1).await {
            Ok(_) => Ok(HelloReply { text: format!("hello, {}", request.name) }),
            Err(_) => Err(Status::internal("failed")),
        }
    }
}

/// A tonic server with a limit of 1 and no room to wait.
async fn greeter(gate: &Gate) -> (tower_load_leveling::Handle, String, Channel) {
    let leveler = builder(0, 1).response_classifier(grpc::ByStatus::new()).build().expect("valid");
    let handle = leveler.handle();
    let stack = ServiceBuilder::new().layer(grpc::RejectionLayer::new()).layer(leveler);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("http://{}", listener.local_addr().expect("bound"));
    let server =
        Server::builder().layer(stack).add_service(GreeterServer::new(Gated(gate.clone())));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let endpoint = Endpoint::from_shared(uri.clone()).expect("a uri");
    (handle, uri, endpoint.connect().await.expect("it listens"))
}

#[tokio::test]
async fn a_client_of_tonic_repeats_what_is_refused() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let (handle, _, channel) = greeter(&gate).await;
    let client = GreeterClient::new(channel);
    let call = service_fn(move |request: HelloRequest| {
        let mut client = client.clone();
        async move { client.say_hello(tonic::Request::new(request)).await }
    });
    let policy = RetryPolicy::new().max_attempts(50).backoff(ms(1)).advice(
        |_: &HelloRequest, result: Result<&HelloReply, &Status>| {
            let status = result.err()?;
            let metadata = status.metadata().clone().into_headers();
            Advice::from_grpc(status.code().into(), &metadata)
        },
    );
    let service = ServiceBuilder::new().retry(policy).service(call);
    let say = |name: &str| service.clone().oneshot(HelloRequest { name: name.to_owned() });
    let first = tokio::spawn(say("one"));
    support::eventually("it runs", || gate.running() == 1).await;
    let second = tokio::spawn(say("two"));
    support::eventually("it is refused", || handle.stats().refused.full > 0).await;
    gate.finish_all();
    assert_eq!(first.await.expect("no panic").expect("greeted").text, "hello, one");
    assert_eq!(second.await.expect("no panic").expect("greeted").text, "hello, two");
    assert_eq!(gate.called().len(), 2, "what was refused has not run");
}

#[tokio::test]
async fn a_grpc_request_on_hyper_is_repeated_when_the_pushback_says() {
    let _t = support::trace_init();
    let gate = Gate::new();
    let (handle, uri, _channel) = greeter(&gate).await;
    let [_, (_, client)] = clients();
    let policy = RetryPolicy::new().http().max_attempts(50).backoff(ms(1));
    let client = ServiceBuilder::new().retry(policy).service(client);
    let call = || {
        // A message without fields: not compressed, of no length.
        let request = Request::post(format!("{uri}/greeter.Greeter/SayHello"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Full::from(&[0, 0, 0, 0, 0][..]))
            .expect("valid");
        let client = client.clone();
        tokio::spawn(async move {
            let response = client.oneshot(request).await.expect("a response");
            let body = response.into_body().collect().await.expect("a body");
            body.trailers().expect("after a message").get("grpc-status").cloned()
        })
    };
    let first = call();
    support::eventually("it runs", || gate.running() == 1).await;
    let second = call();
    support::eventually("it is refused", || handle.stats().refused.full > 0).await;
    gate.finish_all();
    assert_eq!(first.await.expect("no panic").expect("a status"), "0");
    assert_eq!(second.await.expect("no panic").expect("a status"), "0");
}
