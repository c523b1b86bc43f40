//~ E0271
use axum::body::Body;
use http::{Request, Response};
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{LoadLevelLayer, http::RejectionLayer};

fn main() {
    let inner = service_fn(|_: Request<Body>| async { Ok::<_, std::io::Error>("hello") });
    let stack = ServiceBuilder::new()
        .layer(RejectionLayer::new())
        // right: .map_response(|text: &str| Response::new(Body::from(text.to_owned())))
        .layer(LoadLevelLayer::new(1, 1))
        .service(inner);
    is_service(stack);
    let _: Response<Body>;
}

fn is_service(_: impl tower::Service<Request<Body>>) {}
