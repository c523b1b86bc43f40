//~ `&str` does not classify requests of the type `u32`
//~ `.classify_request(|request: &u32| Class::new())`
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .request_classifier("tenant") // wrong
        // right: .classify_request(|request: &u32| Class::new().flow(*request))
        .build()
        .unwrap();
    let inner = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    let _ = ServiceExt::<u32>::oneshot(ServiceBuilder::new().layer(layer).service(inner), 1);
    let _ = Class::new();
}
