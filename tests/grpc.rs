//! Manners for gRPC, with tonic's server and client.
#![cfg(feature = "grpc")]

#[path = "../examples/tonic/greeter.rs"]
mod greeter;
mod support;

use std::{
    convert::Infallible,
    future::pending,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use greeter::{Greeter, GreeterClient, GreeterServer, HelloReply, HelloRequest, hello};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, uri::PathAndQuery};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use support::{builder, gate::Gate, wires};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::Instant};
use tonic::{
    Code, Status, Streaming,
    server::NamedService,
    service::LayerExt,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use tower_load_leveling::{
    Builder, Class, ClassifyResponse, Handle, Unclassified,
    error::{Reason, Rejected},
    grpc::{ByStatus, ErrorStatus, RejectionLayer, TimeoutDeadline},
    http::Hold,
    limit::Outcome,
};

/// Greets the number by which it is called, when told to.
struct Gated(Gate);

impl Greeter for Gated {
    async fn say_hello(&self, request: HelloRequest) -> Result<HelloReply, Status> {
        let id = request.name.parse().map_err(|_| Status::invalid_argument("a number"))?;
        match self.0.service().oneshot(id).await {
            Ok(id) => Ok(HelloReply { text: format!("hello, {id}") }),
            Err(_) => Err(Status::resource_exhausted("too much")),
        }
    }
}

struct Rig {
    gate: Gate,
    handle: Handle,
    client: GreeterClient,
}

impl Rig {
    /// `around_all` puts the stack around the server, and not around the one service.
    async fn serve(capacity: usize, around_all: bool) -> Self {
        let gate = Gate::new();
        let flow = |request: &Request<tonic::body::Body>| match request.headers().get("x-tenant") {
            Some(tenant) => Class::new().flow(tenant),
            None => Class::new(),
        };
        let layer = builder(capacity, 1)
            .request_classifier((flow, TimeoutDeadline::new()))
            .response_classifier(ByStatus::new())
            .hold_until(Hold::BodyEnd)
            .build()
            .expect("valid");
        let handle = layer.handle();
        // Layers with bodies of their own, on both sides.
        let stack = ServiceBuilder::new()
            .layer(TraceLayer::new_for_grpc())
            .layer(RejectionLayer::new())
            .layer(layer)
            .layer(TraceLayer::new_for_grpc())
            .layer(CatchPanicLayer::new());
        let service = GreeterServer::new(Gated(gate.clone()));
        let channel = if around_all {
            wires::serve_grpc(Server::builder().layer(stack).add_service(service)).await
        } else {
            wires::serve_grpc(Server::builder().add_service(stack.named_layer(service))).await
        };
        Self { gate, handle, client: GreeterClient::new(channel) }
    }

    fn call(
        &self,
        request: tonic::Request<HelloRequest>,
    ) -> JoinHandle<Result<HelloReply, Status>> {
        let mut client = self.client.clone();
        tokio::spawn(async move { client.say_hello(request).await })
    }

    async fn until(&self, queued: usize, in_flight: usize) {
        support::eventually("so many wait and run", || {
            let stats = self.handle.stats();
            (stats.queued, stats.in_flight) == (queued, in_flight)
        })
        .await;
    }
}

/// Sends each message back, for as long as the client sends.
#[derive(Clone)]
struct Chat;

const TALK: &str = "/chat.Chat/Talk";

impl NamedService for Chat {
    const NAME: &'static str = "chat.Chat";
}

impl<B> Service<Request<B>> for Chat
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError> + Send + 'static,
{
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = service_fn(async |request: tonic::Request<Streaming<HelloRequest>>| {
            let back = |message: HelloRequest| HelloReply { text: message.name };
            let messages = request.into_inner().map(move |message| message.map(back));
            Ok::<_, Status>(tonic::Response::new(messages))
        });
        Box::pin(async move {
            let codec = ProstCodec::<HelloReply, HelloRequest>::default();
            Ok(tonic::server::Grpc::new(codec).streaming(method, request).await)
        })
    }
}

/// A stream to [`Chat`] that stays open until it is dropped.
struct Talk {
    say: mpsc::UnboundedSender<HelloRequest>,
    heard: Streaming<HelloReply>,
}

impl Talk {
    async fn begin(channel: &Channel) -> Self {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("it listens");
        let (say, mut said) = mpsc::unbounded_channel();
        let messages = futures::stream::poll_fn(move |cx| said.poll_recv(cx));
        let codec = ProstCodec::<HelloRequest, HelloReply>::default();
        let path = PathAndQuery::from_static(TALK);
        let response = client.streaming(tonic::Request::new(messages), path, codec).await;
        Self { say, heard: response.expect("it runs").into_inner() }
    }

    async fn echo(&mut self, text: &str) -> String {
        self.say.send(HelloRequest { name: text.to_owned() }).expect("it is read");
        self.heard.message().await.expect("no error").expect("no end").text
    }
}

#[tokio::test]
async fn streams_without_an_end_that_give_their_slots_back_hold_up_no_unary_call() {
    let _t = support::trace_init();
    for is_told_apart in [true, false] {
        let classify = move |request: &Request<tonic::body::Body>| match request.uri().path() {
            TALK if is_told_apart => Class::new().hold(Hold::Response),
            _ => Class::new(),
        };
        let layer = builder(10, 2)
            .request_classifier((classify, TimeoutDeadline::new()))
            .hold_until(Hold::BodyEnd)
            .build()
            .expect("valid");
        let handle = layer.handle();
        let stack = ServiceBuilder::new().layer(RejectionLayer::new()).layer(layer);
        let (gate, listener) = (Gate::open(), TcpListener::bind("127.0.0.1:0").await);
        let listener = listener.expect("a free port");
        let uri = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Server::builder()
            .layer(stack)
            .add_service(GreeterServer::new(Gated(gate)))
            .add_service(Chat);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let endpoint = Endpoint::from_shared(uri).expect("a uri");
        let channel = endpoint.connect().await.expect("it listens");

        let mut talks = [Talk::begin(&channel).await, Talk::begin(&channel).await];
        for talk in &mut talks {
            assert_eq!(talk.echo("once").await, "once");
        }
        let mut client = GreeterClient::new(channel);
        let mut unary = pin!(client.say_hello(hello("7")));
        if is_told_apart {
            assert_eq!(unary.await.expect("greeted").text, "hello, 7");
        } else {
            // What the docs warn of: both slots are taken, for as long as the streams last.
            let queued = support::eventually("it waits", || handle.stats().queued == 1);
            tokio::select! {
                answer = &mut unary => panic!("it should wait: {answer:?}"),
                () = queued => {}
            }
            let [first, _second] = talks;
            drop(first);
            assert_eq!(unary.await.expect("greeted").text, "hello, 7");
            continue;
        }
        for talk in &mut talks {
            assert_eq!(talk.echo("again").await, "again", "the streams go on");
        }
    }
}

fn of(tenant: &'static str, id: u32) -> tonic::Request<HelloRequest> {
    let mut request = hello(&id.to_string());
    request.metadata_mut().insert("x-tenant", tenant.parse().expect("ascii"));
    request
}

#[tokio::test]
async fn a_refusal_is_unavailable_and_says_when_to_come_back() {
    let _t = support::trace_init();
    for around_all in [false, true] {
        let rig = Rig::serve(1, around_all).await;
        let first = rig.call(hello("0"));
        rig.until(0, 1).await;
        rig.gate.finish(0);
        assert_eq!(first.await.expect("no panic").expect("greeted").text, "hello, 0");
        let running = rig.call(hello("1"));
        rig.until(0, 1).await;
        let waiting = rig.call(hello("2"));
        rig.until(1, 1).await;
        let refused = rig.call(hello("3")).await.expect("no panic").expect_err("refused");
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(refused.message(), "the queue is full");
        let after = refused.metadata().get("grpc-retry-pushback-ms").expect("one has finished");
        assert!(after.to_str().expect("ascii").parse::<u64>().expect("a number") >= 1);
        rig.gate.finish_all();
        for call in [running, waiting] {
            call.await.expect("no panic").expect("greeted");
        }
        rig.until(0, 0).await;
        assert_eq!(rig.handle.stats().succeeded, 3);
    }
}

#[tokio::test]
async fn a_flow_over_its_share_has_exhausted_it() {
    let _t = support::trace_init();
    let rig = Rig::serve(3, false).await;
    let _running = rig.call(of("greedy", 0));
    rig.until(0, 1).await;
    let mut greedy = Vec::new();
    for id in 1..4 {
        greedy.push(rig.call(of("greedy", id)));
        rig.until(id as usize, 1).await;
    }
    let _modest = rig.call(of("modest", 4));
    let evicted = greedy.remove(0).await.expect("no panic").expect_err("evicted");
    assert_eq!(evicted.code(), Code::ResourceExhausted);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_counts_from_arrival_and_the_late_are_never_called() {
    let _t = support::trace_init();
    let rig = Rig::serve(2, false).await;
    let _running = rig.call(hello("1"));
    rig.until(0, 1).await;
    let mut late = hello("2");
    late.set_timeout(Duration::from_millis(50));
    let late = rig.call(late);
    // Answered by us or given up by the client, whichever is first.
    assert!(late.await.expect("no panic").is_err());
    rig.until(0, 1).await;
    let stats = rig.handle.stats();
    assert_eq!(stats.removed.deadline + stats.cancelled, 1, "{stats:?}");
    assert_eq!(rig.gate.called(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_nothing_is_over_and_what_is_none_is_not_for_ever() {
    let _t = support::trace_init();
    let timeout = TimeoutDeadline::new().at_most(Duration::ZERO); // which is no bound
    let timeout = timeout.by_default(Duration::from_millis(300));
    let layer = builder(1, 1).request_classifier(timeout).build().expect("valid");
    let mut service = layer.layer(service_fn(|_: Request<()>| pending::<Result<(), BoxError>>()));
    let _running = tokio_test::task::spawn(service.call(Request::default()));
    for (value, waits) in [("0n", 0), ("0H", 0), ("40m", 40), ("-1S", 300), ("", 300)] {
        let mut request = Request::default();
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(value));
        let start = Instant::now();
        assert_eq!(support::reason(service.call(request).await), Reason::Deadline);
        let (waited, waits) = (start.elapsed(), Duration::from_millis(waits));
        assert!(waited >= waits && waited <= waits * 2, "{value:?}: {waited:?}");
    }
}

#[tokio::test]
async fn a_status_in_the_headers_says_how_the_inner_is() {
    let _t = support::trace_init();
    let rig = Rig::serve(2, false).await;
    let call = rig.call(hello("1"));
    rig.until(0, 1).await;
    rig.gate.end(1, support::gate::Told::Err);
    let status = call.await.expect("no panic").expect_err("it fails");
    assert_eq!(status.code(), Code::ResourceExhausted);
    rig.until(0, 0).await;
    assert_eq!(rig.handle.stats().overloaded, 1);
}

#[tokio::test]
async fn every_reason_is_unavailable_and_says_its_text() {
    let _t = support::trace_init();
    for reason in Reason::ALL {
        for (over_share, code) in [(false, "14"), (true, "8")] {
            let rejected = Rejected::new(*reason).with_retry_after(Duration::from_secs(90));
            let rejected = rejected.with_over_share(over_share);
            let service = RejectionLayer::new().layer(service_fn(move |_: Request<()>| {
                let error = BoxError::from(rejected.clone());
                async move { Err::<Response<tonic::body::Body>, _>(error) }
            }));
            let Ok(response) = service.oneshot(Request::default()).await;
            let headers = response.headers();
            assert_eq!(headers["grpc-status"], code, "{reason}");
            assert_eq!(headers["grpc-message"], reason.to_string());
            assert_eq!(headers["grpc-retry-pushback-ms"], "90000", "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_has_the_status_that_the_user_says() {
    let _t = support::trace_init();
    let rejections = RejectionLayer::new().status(Reason::Deadline, 13).status(Reason::Deadline, 4);
    for (rejections, code) in [(RejectionLayer::new(), "14"), (rejections, "4")] {
        let late = |_: &Request<()>| Class::new().deadline(Instant::now());
        let layer = builder(1, 1).classify_request(late).build().expect("valid");
        let stack = ServiceBuilder::new().layer(rejections).layer(layer);
        let inner =
            service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(String::new())) });
        let Ok(answer) = stack.service(inner).oneshot(Request::default()).await;
        assert_eq!(answer.headers()["grpc-status"], code);
    }
}

/// Answers by its own type, so that the layer's can be named.
#[derive(Clone)]
struct NotFound;

impl ErrorStatus for NotFound {
    fn status(&self, error: BoxError) -> (u8, String) {
        (5, error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_internal_without_details_or_what_the_user_says() {
    let _t = support::trace_init();
    let fails =
        service_fn(|_: Request<()>| async { Err::<Response<String>, _>(BoxError::from("é")) });
    let Ok(internal) = RejectionLayer::new().layer(fails).oneshot(Request::default()).await;
    assert_eq!(internal.headers()["grpc-status"], "13");
    assert_eq!(internal.headers()["grpc-message"], "");
    let named: RejectionLayer<NotFound> = RejectionLayer::new().on_error(NotFound);
    let closure = RejectionLayer::new().on_error(|error| NotFound.status(error));
    let Ok(named) = named.layer(fails).oneshot(Request::default()).await;
    let Ok(closure) = closure.layer(fails).oneshot(Request::default()).await;
    for answer in [named, closure] {
        assert_eq!(answer.headers()["grpc-status"], "5");
        assert_eq!(answer.headers()["grpc-message"], "%C3%A9");
    }
}

/// A body of one message and trailers with this status.
struct Trailing(Vec<Frame<Bytes>>);

impl Body for Trailing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

fn trailing(status: &'static str) -> Response<Trailing> {
    let trailers = [("grpc-status".parse().expect("a name"), HeaderValue::from_static(status))];
    let trailers = Frame::trailers(HeaderMap::from_iter(trailers));
    Response::new(Trailing(vec![trailers, Frame::data(Bytes::from_static(b"message"))]))
}

#[tokio::test(start_paused = true)]
async fn a_status_in_the_trailers_says_it_too() {
    let _t = support::trace_init();
    for (status, overloaded) in [("0", 0), ("5", 0), ("14", 1)] {
        let layer = builder(1, 1)
            .response_classifier(ByStatus::new())
            .hold_until(Hold::BodyEnd)
            .build()
            .expect("valid");
        let inner = service_fn(async |_: ()| Ok::<_, BoxError>(trailing(status)));
        let response = layer.layer(inner).oneshot(()).await.expect("a response");
        let body = response.into_body().collect().await.expect("no error");
        assert_eq!(body.trailers().expect("passed through")["grpc-status"], status);
        let stats = layer.handle().stats();
        assert_eq!((stats.in_flight, stats.overloaded), (0, overloaded), "status {status}");
        assert_eq!(stats.failed, overloaded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_in_the_trailers_says_nothing_to_classifiers_that_do_not_ask() {
    let _t = support::trace_init();
    async fn overloaded<R>(
        builder: Builder<Unclassified, R>,
        http: StatusCode,
        grpc: &'static str,
    ) -> u64
    where
        R: ClassifyResponse<Response<Trailing>, BoxError> + Send + Sync + 'static,
    {
        let layer = builder.hold_until(Hold::BodyEnd).build().expect("valid");
        let inner = service_fn(move |_: ()| async move {
            let mut response = trailing(grpc);
            *response.status_mut() = http;
            Ok::<_, BoxError>(response)
        });
        let response = layer.layer(inner).oneshot(()).await.expect("a response");
        response.into_body().collect().await.expect("no error");
        layer.handle().stats().overloaded
    }
    let fine = builder(1, 1)
        .classify_response(|_: Result<&Response<Trailing>, &BoxError>| Outcome::Success);
    assert_eq!(overloaded(fine, StatusCode::OK, "14").await, 0);
    let by_status = builder(1, 1).response_classifier(tower_load_leveling::http::ByStatus::new());
    assert_eq!(overloaded(by_status, StatusCode::SERVICE_UNAVAILABLE, "0").await, 1);
}
