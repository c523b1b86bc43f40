//~ does not make a gRPC status from an error
//~ `RejectionLayer::new().on_error(|error: BoxError| (13, error.to_string()))`
use tower_load_leveling::grpc::RejectionLayer;

fn main() {
    let layer = RejectionLayer::new();
    let layer = layer.on_error(|error: tower::BoxError| error.to_string()); // wrong
    // right: let layer = layer.on_error(|error: tower::BoxError| (13, error.to_string()));
    drop(layer);
}
