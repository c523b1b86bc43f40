//~ a leveler with `hold_until` or `server_timing` cannot pass on responses of the type
//~ `.map_response(|response: Response<_>| response.map(axum::body::Body::from))`
use http::Response;
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{LoadLevelLayer, http::Hold};

fn main() {
    let layer = LoadLevelLayer::builder().concurrency(1).hold_until(Hold::BodyEnd).build().unwrap();
    let inner = service_fn(|_: u32| async { Ok::<_, std::io::Error>(Response::new("text")) });
    let stack = ServiceBuilder::new()
        .layer(layer)
        // right: .map_response(|response: Response<_>| response.map(axum::body::Body::from))
        .service(inner);
    is_service(stack);
}

fn is_service(_: impl tower::Service<u32>) {}
