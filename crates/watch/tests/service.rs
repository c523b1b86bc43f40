//! The page as a service: what it answers, to whom, and for how long.

mod support;

use std::{convert::Infallible, time::Duration};

use axum::Router;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use support::{MS, SECOND, ask, call, event, frame, get, json, leveler, text};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_load_leveling::{Class, LoadLevelLayer, stats::FlowId};
use tower_load_leveling_watch::Dashboard;

const ENDPOINTS: [(&str, &str); 5] = [
    ("/", "text/html; charset=utf-8"),
    ("/events", "text/event-stream"),
    ("/stats.json", "application/json"),
    ("/history.json", "application/json"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
];

fn assert_closed_to_others(headers: &HeaderMap, of: &str) {
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{of}: {policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(headers[name], value, "{of}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_its_type_and_forbids_to_store_frame_and_sniff() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    for (path, kind) in ENDPOINTS {
        for path in [path, &format!("/a/b{path}"), &format!("{}/", path.trim_end_matches('/'))] {
            let response = get(&page, path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()["content-type"], kind, "{path}");
            assert_closed_to_others(response.headers(), path);
        }
    }
    for path in ["", "*", "/leveler", "/events/x", "/%65vents"] {
        let response = get(&page, if path.is_empty() { "http://host" } else { path }).await;
        assert_eq!(response.headers()["content-type"], ENDPOINTS[0].1, "anything else: {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_only_be_read() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let others = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
    for (method, (path, _)) in others.iter().flat_map(|m| ENDPOINTS.map(|e| (m.clone(), e))) {
        let response = ask(&page, method, path).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_closed_to_others(response.headers(), path);
    }
    for (path, kind) in ENDPOINTS {
        let response = ask(&page, Method::HEAD, path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], kind);
        assert_eq!(text(response).await, "", "no body, and no stream");
    }
    let (head, whole) = (ask(&page, Method::HEAD, "/").await, get(&page, "/").await);
    assert_eq!(head.headers()["content-length"], whole.headers()["content-length"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_a_service_of_axum_at_any_path() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let app = Router::new().nest_service("/leveler", page.clone()).fallback_service(page);
    for (path, kind) in [
        ("/leveler", ENDPOINTS[0].1),
        ("/leveler/", ENDPOINTS[0].1),
        ("/leveler/stats.json", ENDPOINTS[2].1),
        ("/metrics", ENDPOINTS[4].1),
    ] {
        let request = Request::builder().uri(path).body(axum::body::Body::empty()).expect("valid");
        let response = app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.headers()["content-type"], kind, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_numbers_are_those_of_the_leveler() {
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    sleep(500 * MS).await;
    for second in 0..12 {
        for _ in 0..second {
            call(&layer, 100);
        }
        sleep(SECOND).await;
    }
    let history = json(&page, "/history.json").await;
    assert_eq!((history["v"].as_u64(), history["newest"].as_u64()), (Some(1), Some(12)));
    let leveler = &history["levelers"][0];
    assert_eq!((&leveler["name"], &leveler["state"]), (&"orders".into(), &"overloaded".into()));
    let sentence = leveler["sentence"].as_str().expect("text");
    assert!(sentence.starts_with("6 requests arrive a second, "), "{sentence}");
    assert!(sentence.ends_with("most because the queue is full."), "{sentence}");
    let stats = layer.handle().stats();
    let samples = leveler["samples"].as_array().expect("samples");
    let sum = |of: &str| samples.iter().map(|sample| sample[of].as_u64().expect(of)).sum::<u64>();
    assert_eq!((sum("asked"), sum("succeeded")), (stats.arrived(), stats.succeeded));
    let full: u64 = samples.iter().filter_map(|sample| sample["rejected"]["full"].as_u64()).sum();
    assert_eq!(full, stats.refused.full);
    let ids: Vec<_> = samples.iter().map(|sample| sample["id"].as_u64().expect("id")).collect();
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());

    let recent = &leveler["recent"];
    assert_eq!(recent["seconds"], 10.0);
    assert_eq!(recent["asked"], (2..12).sum::<u64>());
    assert_eq!(recent["priorities"]["normal"]["asked"], (2..12).sum::<u64>());
    let waited = recent["wait_ms"][1].as_f64().expect("some waited");
    assert!((200.0..=213.0).contains(&waited), "two before, 100 ms each: {waited}");
    let took = recent["service_ms"][0].as_f64().expect("some ended");
    assert!((100.0..=107.0).contains(&took), "{took}");
    let heat = samples[11]["wait"]["buckets"].as_array().expect("buckets");
    assert_eq!(heat.iter().map(|cell| cell[1].as_u64().expect("count")).sum::<u64>(), 3);

    let newest = json(&page, "/stats.json").await;
    assert_eq!(newest["levelers"][0]["samples"], Value::from(vec![samples[11].clone()]));
    assert_eq!(newest["levelers"][0]["settings"]["capacity"], 2);
}

#[tokio::test(start_paused = true)]
async fn five_minutes_are_kept() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    sleep(400 * SECOND + 500 * MS).await;
    let history = json(&page, "/history.json").await;
    let samples = history["levelers"][0]["samples"].as_array().expect("samples");
    let ids = [&samples[0]["id"], &samples[299]["id"]];
    assert_eq!((samples.len(), ids), (300, [&101.into(), &400.into()]));
}

#[tokio::test(start_paused = true)]
async fn an_event_comes_each_second_and_after_a_reconnect_only_what_is_newer() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    sleep(2 * SECOND + 500 * MS).await;
    let mut body = get(&page, "/events").await.into_body();
    let first = frame(&mut body).await.expect("all there is");
    assert!(first.starts_with("retry: 1000\n\nid: "), "{first}");
    assert!(first.ends_with("\n\n"));
    let ids = |document: &Value| {
        let samples = document["levelers"][0]["samples"].as_array().expect("samples").iter();
        samples.map(|sample| sample["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(ids(&event(&first).1), [1, 2]);
    let next = frame(&mut body).await.expect("the next second");
    let (id, document) = event(&next);
    assert_eq!((ids(&document), next.matches("\n\n").count()), (vec![3], 1));
    drop(body);
    sleep(2 * SECOND).await;
    let again = |id: &str| {
        let request = Request::builder().uri("/events").header("Last-Event-ID", id);
        page.clone().oneshot(request.body(()).expect("valid"))
    };
    let mut body = again(&id).await.expect("infallible").into_body();
    assert_eq!(ids(&event(&frame(&mut body).await.expect("an event")).1), [4, 5]);
    let mut body = again("77-4").await.expect("infallible").into_body();
    let all = frame(&mut body).await.expect("an event");
    assert_eq!(ids(&event(&all).1), [1, 2, 3, 4, 5], "an id of another process");
}

#[tokio::test(start_paused = true)]
async fn there_are_sixteen_streams_at_most_and_the_next_viewer_can_poll() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(get(&page, "/events").await);
    }
    assert!(streams.iter().all(|stream| stream.status() == StatusCode::OK));
    let refused = get(&page, "/events").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_closed_to_others(refused.headers(), "503");
    assert_eq!(json(&page, "/stats.json").await["v"], 1);
    drop(streams.pop());
    assert_eq!(get(&page, "/events").await.status(), StatusCode::OK, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_ten_seconds_and_the_page_is_told_to_come_back_soon() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let begin = Instant::now();
    let whole = text(get(&page, "/events").await).await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert!(whole.ends_with("\n\nretry: 100\n\n"), "{whole}");
    assert!((10..=11).contains(&whole.matches("id: ").count()), "{whole}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_last_leveler_and_says_so() {
    let (orders, mail) = (leveler("orders"), leveler("mail"));
    let page = Dashboard::new().watch(orders.handle()).watch(mail.handle());
    let mut body = get(&page, "/events").await.into_body();
    frame(&mut body).await.expect("the first");
    sleep(SECOND + 300 * MS).await;
    frame(&mut body).await.expect("of the first second");
    orders.handle().close();
    let (_, document) = event(&frame(&mut body).await.expect("at once"));
    assert_eq!(document["levelers"][0]["state"], "closed");
    let begin = Instant::now();
    mail.handle().close();
    let (_, document) = event(&frame(&mut body).await.expect("the last"));
    assert_eq!(document["levelers"][1]["state"], "closed");
    assert_eq!(frame(&mut body).await, None);
    assert!(begin.elapsed() <= 300 * MS, "{:?}", begin.elapsed());
    // A page that asks again is told, and not kept.
    let whole = timeout(MS, text(get(&page, "/events").await)).await.expect("it ends at once");
    assert_eq!(event(&whole).1["levelers"][1]["state"], "closed");
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_dashboard_is_told_to_close() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let mut body = get(&page, "/events").await.into_body();
    frame(&mut body).await.expect("the first");
    page.clone().close();
    let last = timeout(MS, frame(&mut body)).await.expect("at once");
    assert_eq!(last, None);
    assert_eq!(get(&page, "/events").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&page, "/stats.json").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_graceful_shutdown_of_axum_with_an_open_page_ends_with_the_levelers() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::oneshot,
    };
    let layer = leveler("orders");
    let app = Router::new().nest_service("/leveler", Dashboard::new().watch(layer.handle()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    let mut pages = Vec::new();
    for _ in 0..3 {
        let mut page = TcpStream::connect(address).await.expect("it listens");
        page.write_all(b"GET /leveler/events HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("open");
        let mut begin = [0; 15];
        page.read_exact(&mut begin).await.expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        pages.push(page);
    }
    stop.send(()).expect("it runs");
    // The server waits for the pages, and the pages for the levelers.
    sleep(50 * MS).await;
    assert!(!server.is_finished());
    let begin = Instant::now();
    layer.handle().close();
    timeout(SECOND, server).await.expect("within a second").expect("no panic").expect("no error");
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_name_can_be_anything() {
    let name = "</script><img src=x onerror=alert(1)>\n\"'\\ \u{2028}é";
    let (one, other) = (leveler(name), leveler(name));
    let page = Dashboard::new().watch(one.handle()).watch(other.handle());
    let mut body = get(&page, "/events").await.into_body();
    let (_, document) = event(&frame(&mut body).await.expect("an event"));
    assert_eq!(document["levelers"][0]["name"], name);
    assert_eq!(document["levelers"][1]["name"], format!("{name}#2"));
    assert!(!text(get(&page, "/").await).await.contains("<img"), "names come as data alone");
    let metrics = text(get(&page, "/metrics").await).await;
    assert!(metrics.lines().all(|line| line.starts_with(['#', 'l'])), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_leveler_that_is_switched_off_says_so() {
    let builder = LoadLevelLayer::builder().concurrency(1).enabled(false);
    let page = Dashboard::new().watch(builder.build().expect("valid").handle());
    let sentence = &json(&page, "/stats.json").await["levelers"][0]["sentence"];
    assert!(sentence.as_str().expect("text").starts_with("Switched off"), "{sentence}");
}

#[test]
fn without_a_runtime_there_is_a_sample_when_somebody_asks_and_one_is_due() {
    let page = Dashboard::new().watch(leveler("orders").handle());
    let newest = || futures::executor::block_on(json(&page, "/stats.json"))["newest"].as_u64();
    assert_eq!(newest(), Some(0));
    std::thread::sleep(Duration::from_millis(1050));
    assert_eq!(newest(), Some(1));
}

#[test]
fn samples_go_on_after_the_end_of_the_runtime_that_took_them() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    };
    let page = Dashboard::new();
    let first = runtime();
    let _entered = first.enter();
    let page = page.watch(leveler("orders").handle());
    drop(_entered);
    drop(first);
    runtime().block_on(async {
        get(&page, "/").await;
        sleep(3 * SECOND + 500 * MS).await;
        assert!(json(&page, "/stats.json").await["newest"].as_u64() >= Some(3));
    });
}

#[test]
fn samples_go_on_although_the_runtime_that_took_them_is_not_driven_any_more() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (first, second) = (runtime().expect("a runtime"), runtime().expect("a runtime"));
    let page = Dashboard::new();
    let page = first.block_on(async { page.watch(leveler("orders").handle()) });
    let newest = async || json(&page, "/stats.json").await["newest"].as_u64();
    second.block_on(async {
        // Late by more than the two seconds after which another task takes over.
        sleep(3200 * MS).await;
        assert!(newest().await >= Some(1), "whoever asks is told");
        let mut stream = get(&page, "/events").await.into_body();
        frame(&mut stream).await.expect("what there is");
        frame(&mut stream).await.expect("the next, by a task of this runtime");
    });
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_clone() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    let other = page.clone();
    drop(page);
    sleep(SECOND).await;
    assert_eq!(tasks(), 1);
    drop(other);
    sleep(MS).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn flows_have_names_only_if_the_program_gives_some() {
    let layer = LoadLevelLayer::builder()
        .capacity(5)
        .concurrency(1)
        .watch_flows(8)
        .request_classifier(|tenant: &u32| Class::new().flow(*tenant))
        .build()
        .expect("valid");
    let anonymous = Dashboard::new().watch(layer.handle());
    let known = Dashboard::new().watch(layer.handle()).name_flows(|id| {
        assert_ne!(id, FlowId::of(8_u32), "a panic of the program");
        (id == FlowId::of(7_u32)).then(|| "</script>\"".to_owned())
    });
    let mut service =
        layer.layer(service_fn(|_: u32| std::future::pending::<Result<(), Infallible>>()));
    for nth in 0..2000 {
        let tenant = if nth % 10 < 7 { 7 } else { 8 + nth % 3 };
        drop(tokio::spawn(service.call(tenant)));
        sleep(MS).await;
    }
    let flows =
        async |page: &Dashboard| json(page, "/stats.json").await["levelers"][0]["flows"].clone();
    let (ids, names) = (flows(&anonymous).await, flows(&known).await);
    let of = |flows: &Value, what: &str| flows[0][what].clone();
    assert_eq!(of(&ids, "id"), FlowId::of(7_u32).to_string());
    assert!(ids.as_array().expect("flows").iter().all(|flow| flow["name"] == Value::Null));
    assert_eq!((of(&names, "name"), &names[1]["name"]), ("</script>\"".into(), &Value::Null));
    let asked = of(&ids, "asked").as_u64().expect("a count");
    assert!((1200..1600).contains(&asked), "about 1400 of 2000, by one in eight: {asked}");
    assert!(of(&ids, "rejected").as_u64() > Some(1000));
}

#[tokio::test(start_paused = true)]
async fn what_the_algorithm_does_is_told_beside_the_limit() {
    let adaptive = LoadLevelLayer::builder().adaptive_concurrency().build().expect("valid");
    let page = Dashboard::new().watch(adaptive.handle()).watch(leveler("fixed").handle());
    let stats = json(&page, "/stats.json").await;
    assert_eq!(stats["levelers"][0]["limit_view"]["phase"], "startup");
    assert_eq!(stats["levelers"][1]["limit_view"], Value::Null);
}
