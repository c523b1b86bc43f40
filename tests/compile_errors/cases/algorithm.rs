//~ note: for a limit that finds itself write `.adaptive_concurrency()`
//~ `.adaptive(limit::LatencyTarget::new(target))`
//~ note: for a fixed limit write a number: `.concurrency(64)`
use tower_load_leveling::LoadLevelLayer;

fn main() {
    let layer = LoadLevelLayer::builder()
        .adaptive(64) // wrong
        // right: .concurrency(64)
        .build();
    drop(layer);
}
