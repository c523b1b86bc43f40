//~ E0282
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .classify_request(|request| Class::new().flow(request)) // wrong
        // right: .classify_request(|request: &u32| Class::new().flow(request))
        .build();
    drop(layer);
}
