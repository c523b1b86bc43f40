//~ does not answer an error with a response
//~ `RejectionLayer::new().on_error(|error: BoxError| -> Response<String> { .. })`
use axum::{Router, body::Body, routing::get};
use http::Response;
use tower::ServiceBuilder;
use tower_load_leveling::{
    LoadLevelLayer,
    http::{PlainText, RejectionLayer},
};

fn main() {
    let on_error = |_: tower::BoxError| "failed"; // wrong
    // right: let on_error = |_: tower::BoxError| Response::new(Body::from("failed"));
    let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(
        ServiceBuilder::new()
            .layer(RejectionLayer::new().body(PlainText).on_error(on_error))
            .layer(LoadLevelLayer::new(1, 1)),
    );
    drop(app);
    let _: Response<Body>;
}
