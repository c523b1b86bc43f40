//! What several tests need.

#![allow(dead_code, unreachable_pub, reason = "each test is a crate, and needs some of it")]

pub mod browser;

use std::{convert::Infallible, time::Duration};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{LoadLevel, LoadLevelLayer};
use tower_load_leveling_watch::{Body, Dashboard};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// Returns a leveler with this name, a capacity of 2 and a limit of 1.
pub fn leveler(name: &str) -> LoadLevelLayer {
    LoadLevelLayer::builder().name(name).capacity(2).concurrency(1).build().expect("valid")
}

/// Calls a service that takes as many milliseconds as the request says, and forgets the call.
pub fn call(layer: &LoadLevelLayer, millis: u32) {
    let slow = service_fn(|millis: u32| async move {
        sleep(millis * MS).await;
        Ok::<_, Infallible>(())
    });
    let mut service: LoadLevel<_> = layer.layer(slow);
    drop(tokio::spawn(service.call(millis)));
}

/// Asks a dashboard.
pub async fn ask(page: &Dashboard, method: Method, path: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(()).expect("valid");
    match page.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

pub async fn get(page: &Dashboard, path: &str) -> Response<Body> {
    ask(page, Method::GET, path).await
}

pub async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("it never fails").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub async fn json(page: &Dashboard, path: &str) -> Value {
    serde_json::from_str(&text(get(page, path).await).await).expect("JSON")
}

/// Returns the next frame of a stream as text; `None` at its end.
pub async fn frame(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.expect("it never fails");
    let bytes = frame.into_data().expect("data");
    Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

/// Reads an event: its id, and its document.
pub fn event(frame: &str) -> (String, Value) {
    let of = |field: &str| {
        let mut lines = frame.lines().filter_map(|line| line.strip_prefix(field));
        let value = lines.next().unwrap_or_else(|| panic!("{field} in {frame}"));
        assert!(lines.next().is_none(), "one line of {field}");
        value.to_owned()
    };
    (of("id: "), serde_json::from_str(&of("data: ")).expect("JSON"))
}
