//~ the request classifier of this builder cannot be set any more
//~ note: `record_wait` comes after the request classifier
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .record_wait() // wrong
        .classify_request(|_: &http::Request<()>| Class::new())
        // right: .record_wait()
        .build();
    drop(layer);
}
