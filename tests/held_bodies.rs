//! Slots that are held to the end of response bodies, through real sockets.
#![cfg(feature = "grpc")]

#[allow(dead_code, reason = "shared with the example")]
#[path = "../examples/tonic/greeter.rs"]
mod greeter;
mod support;

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures::{FutureExt, future, stream};
use greeter::{GreeterClient, hello};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::{builder, rejection, sockets};
use tokio::time::sleep;
use tonic::{Code, server::NamedService, service::LayerExt, transport::Server};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{
    grpc,
    http::{Hold, RejectionLayer},
};

const BODY: Duration = Duration::from_millis(500);

/// A time after which to retry, with `waiting` in front of two slots: within a factor of two, and
/// the spread of 20 % is part of it.
fn expected(waiting: u32) -> std::ops::RangeInclusive<Duration> {
    let drains = BODY * waiting / 2;
    drains / 2..=drains * 2
}

#[tokio::test]
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
        let base = sockets::serve(router).await;
        let client = sockets::client();
        let send = || tokio::spawn(sockets::get(client.clone(), format!("{base}/")));
        let first: Vec<_> = (0..waiting + 2).map(|_| send()).collect();
        sockets::until("two bodies have ended", || handle.stats().succeeded == 2).await;
        let second = [send(), send()];
        sockets::until("the queue is full", || handle.stats().queued == waiting as usize).await;
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

#[tokio::test]
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
    let channel = sockets::serve_grpc(Server::builder().add_service(late)).await;
    let call = || {
        let mut client = GreeterClient::new(channel.clone());
        tokio::spawn(async move { client.say_hello(hello("")).await })
    };
    let first: Vec<_> = (0..8).map(|_| call()).collect();
    sockets::until("two bodies have ended", || handle.stats().succeeded == 2).await;
    let second = [call(), call()];
    sockets::until("the queue is full", || handle.stats().queued == 6).await;
    let refused = call().await.expect("no panic").expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable);
    let millis = refused.metadata().get("grpc-retry-pushback-ms").expect("known");
    let after = Duration::from_millis(millis.to_str().expect("text").parse().expect("a number"));
    assert!(expected(6).contains(&after), "{after:?}");
    first.into_iter().chain(second).for_each(|call| call.abort());
}
