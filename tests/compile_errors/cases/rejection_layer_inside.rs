//~ is not implemented for `Infallible`
use axum::{Router, routing::get};
use tower::ServiceBuilder;
use tower_load_leveling::{LoadLevelLayer, http::RejectionLayer};

fn main() {
    let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(
        ServiceBuilder::new()
            // right: .layer(RejectionLayer::new())
            .layer(LoadLevelLayer::new(1, 1))
            .layer(RejectionLayer::new()) // wrong
            .into_inner(),
    );
    drop((app, RejectionLayer::new()));
}
