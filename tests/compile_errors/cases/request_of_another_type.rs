//~ expected closure signature `for<'a> fn(&'a u32) -> _`
//~ ClassifyRequest<u32>
use tower::{ServiceBuilder, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .classify_request(|request: &String| Class::new().flow(request)) // wrong
        // right: .classify_request(|request: &u32| Class::new().flow(request))
        .build()
        .unwrap();
    let inner = service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    is_service(ServiceBuilder::new().layer(layer).service(inner));
}

fn is_service(_: impl tower::Service<u32>) {}
