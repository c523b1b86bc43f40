//~ E0271
//~ expected `Infallible`, found `Box<dyn Error + Send + Sync>`
use axum::body::Body;
use http::{Request, Response};
use std::convert::Infallible;
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{LoadLevelLayer, http::RejectionLayer};

fn main() {
    let inner =
        service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let stack = ServiceBuilder::new()
        // right: .layer(RejectionLayer::new())
        .layer(LoadLevelLayer::new(1, 1))
        .service(inner);
    serve(stack);
    let _ = RejectionLayer::new();
}

fn serve(_: impl tower::Service<Request<Body>, Error = Infallible>) {}
