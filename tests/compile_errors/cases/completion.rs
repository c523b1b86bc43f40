//~ a leveler with `hold_until` or `server_timing` cannot pass on responses of the type `u32`
//~ note: the inner service has to respond with `http::Response<B>`
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{LoadLevelLayer, http::Hold};

fn main() {
    let layer = LoadLevelLayer::builder().concurrency(1).hold_until(Hold::BodyEnd).build().unwrap();
    let inner = service_fn(|_: u32| async {
        let response = 1_u32; // wrong
        // right: let response = http::Response::new(axum::body::Body::empty());
        Ok::<_, std::io::Error>(response)
    });
    is_service(ServiceBuilder::new().layer(layer).service(inner));
}

fn is_service(_: impl tower::Service<u32>) {}
