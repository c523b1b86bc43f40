//~ `&str` does not classify requests of the type `u32`
//~ note: a closure is one if the type of its parameter is written out
//~ `.classify_request(|request: &u32| Class::new())`
//~ note: several classifiers are joined in a tuple: `.request_classifier((first, second))`
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .request_classifier("tenant") // wrong
        // right: .classify_request(|request: &u32| Class::new().flow(*request))
        .build()
        .unwrap();
    let inner = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    is_service(ServiceBuilder::new().layer(layer).service(inner));
    let _ = Class::new();
}

fn is_service(_: impl tower::Service<u32>) {}
