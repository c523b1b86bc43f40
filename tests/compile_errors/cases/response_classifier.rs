//~ ByStatus` does not judge responses of the type `u32` with errors
//~ `.classify_response(|result: Result<&u32, &std::io::Error>| Outcome::Success)`
//~ note: the default judges all responses: `.response_classifier(ByResult::new())`
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{LoadLevelLayer, http::ByStatus, limit::Outcome};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .response_classifier(ByStatus::new()) // wrong
        // right: .classify_response(|result: Result<&u32, &std::io::Error>| Outcome::Success)
        .build()
        .unwrap();
    let inner = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    is_service(ServiceBuilder::new().layer(layer).service(inner));
}

fn is_service(_: impl tower::Service<u32>) {}
