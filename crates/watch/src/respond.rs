//! From a request to a response.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tower_load_leveling::{Handle, prometheus};

use crate::{
    body::Body,
    document::{Samples, document},
    events::{Events, last_seen},
    page::{PAGE, POLICY},
    shared::Shared,
    viewers::Viewers,
};

/// The headers of every response: never stored, never taken for another type, never framed, never
/// read by another site.
const HEADERS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const EVENTS: &str = "text/event-stream";

pub(crate) fn respond<B>(
    shared: &Arc<Shared>,
    viewers: &Viewers,
    request: &Request<B>,
) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        let mut response = whole(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read only\n", false);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let whole = |kind, bytes: String| whole(StatusCode::OK, kind, bytes, is_head);
    match endpoint(request.uri().path()) {
        "stats.json" => whole(JSON, document(shared, Samples::Newest)),
        "history.json" => whole(JSON, document(shared, Samples::After(0))),
        "metrics" => {
            let levelers = shared.levelers();
            let handles: Vec<Handle> = levelers.iter().map(|of| of.handle.clone()).collect();
            whole(prometheus::CONTENT_TYPE, prometheus::render(&handles))
        }
        "events" if is_head => with_headers(StatusCode::OK, EVENTS, Body::whole(Bytes::new())),
        "events" => events(shared, viewers, request),
        _ => self::whole(StatusCode::OK, HTML, PAGE, is_head),
    }
}

/// Returns the last segment of the path, so that the dashboard can be mounted anywhere.
fn endpoint(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.rsplit('/').next().unwrap_or_default()
}

fn events<B>(shared: &Arc<Shared>, viewers: &Viewers, request: &Request<B>) -> Response<Body> {
    let viewer = if shared.is_closed() { None } else { viewers.join() };
    let Some(viewer) = viewer else {
        let text = "no stream is free: ask for stats.json\n";
        return whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, text, false);
    };
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    let seen = last.map_or(0, |id| last_seen(id, shared.run()));
    let events = Events::new(shared.clone(), viewer, seen);
    let mut response = with_headers(StatusCode::OK, EVENTS, Body::events(events));
    // nginx would keep events back until a buffer is full.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(unbuffered, HeaderValue::from_static("no"));
    response
}

fn whole(
    status: StatusCode,
    kind: &'static str,
    bytes: impl Into<Bytes>,
    is_head: bool,
) -> Response<Body> {
    let bytes = bytes.into();
    let length = HeaderValue::from(bytes.len());
    let body = if is_head { Bytes::new() } else { bytes };
    let mut response = with_headers(status, kind, Body::whole(body));
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

fn with_headers(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_decides_with_and_without_a_slash() {
        for path in ["/events", "/events/", "/leveler/events", "/a/b/events/", "events"] {
            assert_eq!(endpoint(path), "events", "{path}");
        }
        for path in ["", "/", "//", "/leveler", "/leveler/", "/events/x", "/eventsx"] {
            assert_ne!(endpoint(path), "events", "{path}");
        }
    }
}
