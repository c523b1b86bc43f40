//! The page in a real browser: see `support/browser.rs` for what is needed.

#[path = "../examples/dashboard/scene.rs"]
mod scene;
mod support;

use std::{
    convert::Infallible, env, future::IntoFuture, net::SocketAddr, path::PathBuf, time::Duration,
};

use axum::{Router, body::Body, response::Response, routing::get};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use support::{
    MS, SECOND,
    browser::{Browser, skip},
    call, leveler, text,
};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{interval, sleep},
};
use tower_load_leveling::LoadLevelLayer;
use tower_load_leveling_watch::Dashboard;

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(app: Router) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), app).await
    }

    async fn at(address: SocketAddr, app: Router) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            axum::serve(listener, app).into_future().await.expect("it serves");
        });
        Self { address, task }
    }

    async fn of(page: &Dashboard) -> Self {
        Self::start(Router::new().nest_service("/leveler", page.clone())).await
    }

    fn url(&self) -> String {
        format!("http://{}/leveler", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Calls a leveler every `every`, for as long as the test runs.
fn keep_calling(layer: &LoadLevelLayer, every: Duration, millis: u32) {
    let layer = layer.clone();
    tokio::spawn(async move {
        let mut ticks = interval(every);
        loop {
            ticks.tick().await;
            call(&layer, millis);
        }
    });
}

/// A leveler that turns most away.
fn overloaded(name: &str) -> LoadLevelLayer {
    let layer = leveler(name);
    keep_calling(&layer, 10 * MS, 50);
    layer
}

/// The page has asked its own server alone, and nobody has complained.
async fn assert_quiet(browser: &Browser, server: &Server) {
    let console = browser.console().await;
    assert!(console.is_empty(), "{console:#?}");
    let requests = browser.requests().await;
    let own = format!("http://{}/", server.address);
    let is_own = |url: &String| url.starts_with(&own) || url.starts_with("data:");
    assert!(!requests.is_empty() && requests.iter().all(is_own), "{requests:#?}");
}

const WORD: &str = "document.getElementById('word').textContent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_has_its_word_and_the_page_begins_with_the_worst() {
    let test = "every_state_has_its_word";
    let Some(browser) = Browser::start(test, 1280, 900, "dark").await else { return };
    let [idle, calm, leveling, stalled, paused, draining, closed] =
        ["idle", "calm", "leveling", "stalled", "paused", "draining", "closed"].map(leveler);
    let overloaded = overloaded("overloaded");
    keep_calling(&calm, 100 * MS, 1);
    tokio::spawn({
        let leveling = leveling.clone();
        async move {
            loop {
                (0..2).for_each(|_| call(&leveling, 20));
                sleep(100 * MS).await;
            }
        }
    });
    (0..2).for_each(|_| call(&stalled, 600_000));
    call(&draining, 600_000);
    // Before a call has been polled, there is nothing to drain.
    sleep(50 * MS).await;
    paused.handle().pause();
    draining.handle().close();
    closed.handle().close();
    let all = [idle, calm, leveling, overloaded, stalled, paused, draining, closed];
    let page = all.iter().fold(Dashboard::new(), |page, layer| page.watch(layer.handle()));
    let server = Server::of(&page).await;
    browser.open(&server.url()).await;
    let tabs = "[...document.querySelectorAll('#levelers button')]";
    browser.until(&format!("{tabs}.length === 8")).await;
    browser
        .until(&format!(
            "{tabs}.every((tab) => tab.childNodes[1].textContent === tab.lastChild.textContent)"
        ))
        .await;
    // One after the other: the name of each is the state in which it has been put.
    for (at, layer) in all.iter().enumerate() {
        let name = layer.handle().name().to_owned();
        browser.run(&format!("{tabs}[{at}].click()")).await;
        browser.until(&format!("{WORD}.toLowerCase() === '{name}'")).await;
        browser.until(&format!("document.title.toLowerCase() === '{name} · {name}'")).await;
        let sentence = browser.run("return document.getElementById('sentence').textContent").await;
        assert!(sentence.as_str().is_some_and(|sentence| sentence.len() > 10), "{sentence}");
    }
    // A page that opens now begins with what needs a look most, and one with a name with that.
    browser.open(&format!("{}#", server.url())).await;
    browser.run("location.reload()").await;
    browser.until(&format!("{WORD} === 'Stalled'")).await;
    browser.open(&format!("{}?#calm", server.url())).await;
    browser.until(&format!("{WORD} === 'Calm'")).await;
    assert_quiet(&browser, &server).await;
    browser.quit().await;
}

/// A history of five minutes in which everything occurs, made from one that a dashboard has told.
async fn five_minutes() -> Value {
    let layer = overloaded("orders");
    let page = Dashboard::new().watch(layer.handle());
    sleep(2 * SECOND).await;
    let mut history: Value =
        serde_json::from_str(&text(support::get(&page, "/history.json").await).await)
            .expect("JSON");
    let sample = history["levelers"][0]["samples"][1].clone();
    let reasons: Vec<String> = history["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .map(|reason| reason["reason"].as_str().expect("a word").to_owned())
        .collect();
    let levels = history["priorities"].clone();
    let samples = (1..=300_u64).map(|id| {
        let mut sample = sample.clone();
        sample["id"] = json!(id);
        sample["at"] = json!(1_700_000_000_000 + 1000 * id);
        sample["asked"] = json!(1000 + 977 * id % 500);
        for (nth, reason) in reasons.iter().enumerate() {
            sample["rejected"][reason] = json!(10 + (id * (nth as u64 + 3)) % 70);
        }
        for level in levels.as_array().expect("priorities") {
            sample["priorities"][level.as_str().expect("a word")] = json!([200, id % 200, id % 9]);
        }
        let buckets: Vec<_> =
            (0..40).map(|bucket| json!([bucket, 1 + (id * bucket) % 90])).collect();
        for times in ["wait", "removed_wait", "service"] {
            sample[times] =
                json!({ "p50_ms": 10 + id % 7, "p99_ms": 200 + id % 50, "buckets": buckets });
        }
        (sample["limit"], sample["slots_taken"]) = (json!(8 + id % 13), json!(id % 20));
        (sample["queued"], sample["max_wait_ms"]) = (json!(id % 90), json!(250));
        sample
    });
    history["levelers"][0]["samples"] = samples.collect();
    history["newest"] = json!(300);
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_minutes_are_drawn_and_redrawn_without_a_long_task() {
    let test = "five_minutes_are_drawn_without_a_long_task";
    let Some(browser) = Browser::start_traced(test, 1280, 900, "dark").await else { return };
    let history = five_minutes().await;
    let layer = leveler("orders");
    let page = Dashboard::new().watch(layer.handle());
    // The real page, and events of a made history: all of it, and then five more seconds a second.
    let events = move || {
        let mut document = history.clone();
        let mut next = 0_u64;
        let frames = futures::stream::unfold((), move |()| {
            let data = format!("data: {document}\n\n");
            next += 1;
            let mut sample = document["levelers"][0]["samples"]
                .as_array()
                .and_then(|all| all.last().cloned())
                .expect("samples");
            sample["id"] = json!(300 + next);
            sample["at"] = json!(1_700_000_300_000 + 1000 * next);
            document["levelers"][0]["samples"] = json!([sample]);
            async move {
                if next > 1 {
                    sleep(200 * MS).await;
                }
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(data))), ()))
            }
        });
        let response = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(response.body(Body::new(StreamBody::new(frames))).expect("valid"))
    };
    let app = Router::new().route("/leveler/events", get(events)).nest_service("/leveler", page);
    let server = Server::start(app).await;
    browser.open(&server.url()).await;
    browser.run("document.querySelectorAll('#spans button')[2].click()").await;
    // Few looks, since each is a task of the trace: ten redraws.
    browser.until("levelers[0] && levelers[0].samples[299].id > 310").await;
    let longest = browser.longest_task().await;
    assert!(longest > MS && longest < 50 * MS, "{longest:?}");
    let drawn = "const pen = document.getElementById('waits').getContext('2d'); \
                 return pen.getImageData(0, 0, 2000, 200).data.some((byte) => byte > 0)";
    assert_eq!(browser.run(drawn).await, true);
    assert_eq!(browser.console().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_overload_shows_the_numbers_within_a_second() {
    let test = "a_reload_under_overload";
    let Some(browser) = Browser::start(test, 1280, 900, "light").await else { return };
    let layer = overloaded("orders");
    let server = Server::of(&Dashboard::new().watch(layer.handle())).await;
    browser.open(&server.url()).await;
    browser.until(&format!("{WORD} === 'Overloaded'")).await;
    // Marked by the page itself: the first change of the word.
    let watch = "const word = document.getElementById('word'); \
                 if (word.textContent !== '…') return performance.now(); \
                 return await new Promise((tell) => \
                   new MutationObserver(() => tell(performance.now())) \
                   .observe(word, { childList: true }));";
    for _ in 0..3 {
        browser.open(&server.url()).await;
        let shown = browser.wait_for(watch).await;
        assert!(shown.as_f64().is_some_and(|ms| ms < 1000.0), "{shown} ms after the reload");
    }
    assert_quiet(&browser, &server).await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_phone_nothing_is_wider_than_the_screen() {
    let Some(browser) = Browser::start("on_a_phone", 390, 844, "dark").await else { return };
    let name = "<img src=x onerror=alert(1)>'\"-with-quite-a-long-name";
    let [orders, other] = [overloaded("orders"), overloaded(name)];
    let page = Dashboard::new().watch(orders.handle()).watch(other.handle());
    let server = Server::of(&page).await;
    browser.open(&server.url()).await;
    browser.until(&format!("{WORD} === 'Overloaded'")).await;
    let shown = "return document.querySelectorAll('#levelers button')[1].childNodes[1].textContent";
    assert_eq!(browser.run(shown).await, name, "as it is, and not as HTML");
    for width in [390, 320] {
        browser.resize(width, 844).await;
        sleep(300 * MS).await;
        let wide = browser.run("return document.documentElement.scrollWidth").await;
        assert!(wide.as_u64() <= Some(width.into()), "{wide} px on {width}");
        let cut = browser
            .run(
                "return [...document.querySelectorAll('main *, header *')] \
                 .filter((node) => node.getBoundingClientRect().right > innerWidth + 1) \
                 .map((node) => node.outerHTML.slice(0, 80))",
            )
            .await;
        assert_eq!(cut, json!([]), "on {width}");
    }
    // What is wrong, and how far off, is on the first screen.
    browser.resize(390, 844).await;
    let seen = "return document.getElementById('running').getBoundingClientRect().bottom";
    assert!(browser.run(seen).await.as_f64().is_some_and(|bottom| bottom < 844.0));
    assert_quiet(&browser, &server).await;
    browser.quit().await;
}

const TAB: char = '\u{e004}';
const LEFT: char = '\u{e012}';
const ESCAPE: char = '\u{e00c}';

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_reaches_everything_and_keeps_its_focus() {
    let Some(browser) = Browser::start("the_keyboard", 1280, 900, "light").await else { return };
    let [orders, mail] = [overloaded("orders"), leveler("mail")];
    let page = Dashboard::new().watch(orders.handle()).watch(mail.handle());
    let server = Server::of(&page).await;
    browser.open(&server.url()).await;
    browser.until(&format!("{WORD} === 'Overloaded'")).await;
    let mut reached = Vec::new();
    let focused = "const at = document.activeElement; \
                   return at === document.body ? null : at.id || at.textContent.trim()";
    loop {
        browser.press(TAB).await;
        match browser.run(focused).await {
            Value::String(what) if !reached.contains(&what) => reached.push(what),
            _ => break,
        }
    }
    let expected = [
        "ordersoverloaded",
        "mailidle",
        "60 s",
        "2 min",
        "5 min",
        "flow",
        "limit",
        "waits",
        "queue",
        "service",
        "levels",
        "to-stats",
        "to-history",
        "to-metrics",
    ];
    assert_eq!(reached, expected);

    // The focus is seen, and stays through samples and a change of state.
    browser
        .run("window.first = document.querySelectorAll('#levelers button')[1]; first.focus()")
        .await;
    browser.press('\u{e007}').await;
    browser.until(&format!("{WORD} === 'Idle'")).await;
    assert_eq!(browser.run("return getComputedStyle(first).outlineStyle").await, "solid");
    mail.handle().pause();
    browser.until(&format!("{WORD} === 'Paused'")).await;
    mail.handle().resume();
    browser.until(&format!("{WORD} === 'Idle'")).await;
    sleep(2 * SECOND).await;
    assert_eq!(browser.run("return document.activeElement === first").await, true);

    // A chart is read second by second.
    browser.run("document.getElementById('flow').focus()").await;
    let says = "document.getElementById('flow-says').textContent";
    for _ in 0..2 {
        browser.press(LEFT).await;
    }
    browser.until(&format!("{says}.includes(' · arrived ')")).await;
    browser.press(ESCAPE).await;
    browser.until(&format!("!{says}.includes(' · arrived ')")).await;
    assert_eq!(browser.run("return document.activeElement.id").await, "flow");
    assert_quiet(&browser, &server).await;
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axe_finds_nothing_and_text_has_contrast() {
    let test = "axe_finds_nothing";
    let Ok(axe) = env::var("AXE") else {
        return skip(test, "AXE does not say where axe.min.js of axe-core is");
    };
    let axe = std::fs::read_to_string(&axe).unwrap_or_else(|error| panic!("{axe}: {error}"));
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 390)] {
        let Some(browser) = Browser::start(test, width, 900, scheme).await else { return };
        let [orders, mail] = [overloaded("orders"), leveler("mail")];
        mail.handle().pause();
        let page = Dashboard::new().watch(orders.handle()).watch(mail.handle());
        let server = Server::of(&page).await;
        browser.open(&format!("{}#orders", server.url())).await;
        browser.until(&format!("{WORD} === 'Overloaded'")).await;
        browser.run(&axe).await;
        for tab in [0, 1] {
            browser
                .run(&format!("document.querySelectorAll('#levelers button')[{tab}].click()"))
                .await;
            sleep(500 * MS).await;
            let found = browser
                .wait_for(
                    "const { violations, passes } = await axe.run(document); \
                     const where = ({ html, failureSummary }) => [html, failureSummary]; \
                     return [violations.map(({ id, nodes }) => [id, nodes.map(where)]), \
                       passes.map(({ id }) => id)];",
                )
                .await;
            assert_eq!(found[0], json!([]), "{scheme}, {width} px");
            assert!(found[1].as_array().is_some_and(|ids| ids.contains(&"color-contrast".into())));
        }
        // What is drawn, axe does not see.
        for color in ["ink", "dim"] {
            let contrast =
                browser.run(&format!("{CONTRAST} return contrast('{color}', 'card')")).await;
            assert!(contrast.as_f64() >= Some(4.5), "{color}: {contrast}");
        }
        browser.quit().await;
    }
}

/// The contrast of two colors of the page, by WCAG 2.1.
const CONTRAST: &str = "
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
      const hex = style.getPropertyValue('--' + name).trim().slice(1);
      const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
      const [red, green, blue] = [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16) / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const contrast = (one, other) => {
      const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_that_its_numbers_are_old_and_comes_back_with_the_server() {
    let test = "the_page_says_that_its_numbers_are_old";
    let Some(browser) = Browser::start(test, 1280, 900, "light").await else { return };
    let layer = overloaded("orders");
    let server = Server::of(&Dashboard::new().watch(layer.handle())).await;
    let address = server.address;
    browser.open(&server.url()).await;
    let live = "document.getElementById('live').textContent";
    browser.until(&format!("{live} === 'live'")).await;
    // Connections go on after the end of `serve`, so the page is gone with its stream only.
    drop(server);
    browser.until(&format!("{live}.startsWith('no news: these numbers are old, by ')")).await;
    // Another process: its samples begin with 1 again.
    let page = Dashboard::new().watch(leveler("orders").handle());
    let server = Server::at(address, Router::new().nest_service("/leveler", page)).await;
    browser.until(&format!("{live} === 'live' && {WORD} === 'Idle'")).await;
    assert!(browser.run("return levelers[0].samples.length").await.as_u64() < Some(20));
    drop(server);
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_gets_no_stream_polls() {
    let test = "a_page_that_gets_no_stream_polls";
    let Some(browser) = Browser::start(test, 1280, 900, "light").await else { return };
    let layer = overloaded("orders");
    let page = Dashboard::new().watch(layer.handle());
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(support::get(&page, "/events").await);
    }
    sleep(3 * SECOND).await;
    let server = Server::of(&page).await;
    browser.open(&server.url()).await;
    browser.until(&format!("{WORD} === 'Overloaded' && levelers[0].samples.length > 5")).await;
    let asked = browser.requests().await;
    assert!(asked.iter().any(|url| url.ends_with("/history.json")), "{asked:#?}");
    assert!(asked.iter().any(|url| url.ends_with("/stats.json")), "{asked:#?}");
    drop(streams);
    browser.quit().await;
}

/// The pictures of the documentation: a flood in the midst of which the backend has lost servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_becomes_overloaded_and_is_pictured() {
    let test = "the_example_is_pictured";
    let Some(folder) = env::var_os("PICTURES").map(PathBuf::from) else {
        return skip(test, "PICTURES does not say in which folder; takes two minutes");
    };
    std::fs::create_dir_all(&folder).expect("a folder");
    let Some(browser) = Browser::start(test, 1280, 900, "light").await else { return };
    let scene = scene::Scene::new().expect("valid");
    let server = Server::of(&scene.dashboard()).await;
    let playing = tokio::spawn(scene.play());
    sleep(46 * SECOND).await;
    browser.open(&format!("{}#orders", server.url())).await;
    browser.until(&format!("{WORD} === 'Overloaded'")).await;
    sleep(54 * SECOND).await;
    let bottom =
        "return document.getElementById('queue').closest('figure').getBoundingClientRect().bottom";
    let height = browser.run(bottom).await.as_f64().expect("a number") as u32 + 8;
    for scheme in ["light", "dark"] {
        browser.set_scheme(scheme).await;
        sleep(SECOND + 500 * MS).await;
        browser.picture(&folder.join(format!("page-{scheme}.png")), (1280, height)).await;
    }
    browser.resize(390, 844).await;
    sleep(SECOND + 500 * MS).await;
    browser.picture(&folder.join("page-phone.png"), (390, 844)).await;
    assert_quiet(&browser, &server).await;
    playing.abort();
    browser.quit().await;
}
