//~ `&str` does not make the body of a refusal
//~ `.body(|refusal: &Refusal<'_>, request: &Parts| refusal.problem_json(None))`
use axum::{Router, routing::get};
use http::request::Parts;
use tower::ServiceBuilder;
use tower_load_leveling::{
    LoadLevelLayer,
    http::{Refusal, RejectionLayer},
};

fn main() {
    let rejections = RejectionLayer::new().body("busy"); // wrong
    // right: let body = |refusal: &Refusal<'_>, _: &Parts| refusal.plain_text();
    // right: let rejections = RejectionLayer::new().body(body);
    let app: Router = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(ServiceBuilder::new().layer(rejections).layer(LoadLevelLayer::new(1, 1)));
    drop(app);
    let _: Option<(Refusal<'_>, Parts)> = None;
}
