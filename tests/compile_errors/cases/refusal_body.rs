//~ `PlainText` cannot make a body of the type `
//~ note: right inside of the `RejectionLayer` turn the body into one of those
//~ `.map_response(|response: Response<_>| response.map(axum::body::Body::new))`
use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use std::convert::Infallible;
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{
    LoadLevelLayer,
    http::{PlainText, RejectionLayer},
};

fn main() {
    let inner = service_fn(|_: http::Request<Body>| async {
        let body: BoxBody<Bytes, Infallible> = Full::default().boxed();
        Ok::<_, Infallible>(Response::new(body))
    });
    let stack = ServiceBuilder::new()
        .layer(RejectionLayer::new().body(PlainText))
        // right: .map_response(|response: Response<_>| response.map(axum::body::Body::new))
        .layer(LoadLevelLayer::new(1, 1))
        .service(inner);

    is_service(stack);
}

fn is_service(_: impl tower::Service<http::Request<Body>>) {}
