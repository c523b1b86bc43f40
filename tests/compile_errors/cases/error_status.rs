//~ note: write a closure that returns a code and a message
//~ `RejectionLayer::new().on_error(|error: BoxError| (13, error.to_string()))`
use tower_load_leveling::grpc::RejectionLayer;

fn main() {
    let layer = RejectionLayer::new();
    let layer = layer.on_error(13); // wrong
    // right: let layer = layer.on_error(|error: tower::BoxError| (13, error.to_string()));
    drop(layer);
}
