//~ does not classify requests of the type `u32`
//~ `.classify_request(|request: &u32| Class::new())`
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, http::HeaderDeadline};

fn main() {
    let flow = |request: &u32| Class::new().flow(request);
    let header = http::HeaderName::from_static("x-timeout-ms");
    let deadline = HeaderDeadline::millis(header);
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .request_classifier((flow, deadline)) // wrong
        // right: .request_classifier((flow, |_: &u32| Class::new()))
        .build()
        .unwrap();
    let inner = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    is_service(ServiceBuilder::new().layer(layer).service(inner));
}

fn is_service(_: impl tower::Service<u32>) {}
