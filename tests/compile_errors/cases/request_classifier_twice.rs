//~ the request classifier of this builder cannot be set any more
//~ note: several classifiers are joined in a tuple: `.request_classifier((first, second))`
use tower_load_leveling::{Class, LoadLevelLayer};

fn main() {
    let first = |_: &u32| Class::new();
    let second = |_: &u32| Class::new();
    let layer = LoadLevelLayer::builder()
        .concurrency(1)
        .request_classifier(first) // wrong
        .request_classifier(second) // wrong
        // right: .request_classifier((first, second))
        .build();
    drop(layer);
}
