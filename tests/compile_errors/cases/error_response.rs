//~ `InternalServerError` cannot answer an error with a body of the type `NoDefault`
//~ `RejectionLayer::new().on_error(|error: BoxError| -> Response<NoDefault> { .. })`
//~ `.map_response(|response: Response<_>| response.map(axum::body::Body::new))`
use axum::body::Body;
use http::Response;
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{
    LoadLevelLayer,
    http::{PlainText, RejectionLayer},
};

struct NoDefault(String);
impl From<String> for NoDefault {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn main() {
    let inner = service_fn(|_: http::Request<Body>| async {
        Ok::<_, std::io::Error>(Response::new(NoDefault(String::new())))
    });
    let stack = ServiceBuilder::new()
        .layer(RejectionLayer::new().body(PlainText))
        // right: .map_response(|response: Response<NoDefault>| response.map(|body| body.0))
        .layer(LoadLevelLayer::new(1, 1))
        .service(inner);
    is_service(stack);
}

fn is_service(_: impl tower::Service<http::Request<Body>>) {}
