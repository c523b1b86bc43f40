//! A real browser, by the protocol of the W3C: `chromedriver` is started, and told what to do as
//! JSON over HTTP.
//!
//! The driver is found on `PATH`, or where `CHROMEDRIVER` says. Without one, the tests say so and
//! pass; `CHROMEDRIVER=none` is for that.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Mutex, sync::MutexGuard, time::sleep};

/// One browser at a time: several would measure each other.
static ONE: Mutex<()> = Mutex::const_new(());

pub struct Browser {
    driver: Driver,
    session: String,
    _one: MutexGuard<'static, ()>,
}

/// What is traced: tasks and marks.
const TRACED: &str = "toplevel,blink.user_timing";

/// The process of the driver. Its end is the end of its browsers.
struct Driver {
    process: Child,
    port: u16,
}

/// Tells why a test does nothing, past the harness, which shows nothing of tests that pass.
pub fn skip(test: &str, why: &str) {
    let line = format!("\n*** SKIPPED {test}: {why} ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl Browser {
    /// Starts a browser with a window of this size and scheme of colors; `None` without a driver.
    pub async fn start(test: &str, width: u32, height: u32, scheme: &str) -> Option<Self> {
        Self::start_with(test, (width, height), scheme, json!({})).await
    }

    /// The same, with a trace of all tasks.
    pub async fn start_traced(test: &str, width: u32, height: u32, scheme: &str) -> Option<Self> {
        let trace = json!({ "perfLoggingPrefs": { "traceCategories": TRACED } });
        Self::start_with(test, (width, height), scheme, trace).await
    }

    async fn start_with(
        test: &str,
        (width, height): (u32, u32),
        scheme: &str,
        mut options: Value,
    ) -> Option<Self> {
        let one = ONE.lock().await;
        let Some(driver) = Driver::start() else {
            skip(test, "no chromedriver on PATH or in CHROMEDRIVER");
            return None;
        };
        options["args"] = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
        ]);
        let always = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": always } });
        let session = driver.ask(Method::POST, "/session", wanted).await;
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        let browser = Self { driver, session, _one: one };
        browser.resize(width, height).await;
        browser.set_scheme(scheme).await;
        Some(browser)
    }

    /// Sets what the page is told of the reader's taste: `light` or `dark`.
    pub async fn set_scheme(&self, scheme: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Runs a script in the page: the body of a function.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Runs a script that returns a promise, and waits for it.
    pub async fn wait_for(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(done, (error) => done(String(error)));"
        );
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn until(&self, expression: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            for _ in 0..300 {
                if self.run(&format!("return Boolean({expression})")).await == true {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
            let found = self.run("return document.body.innerText").await;
            panic!("{place}: not within 30 s: {expression}\n{}", found.as_str().unwrap_or(""));
        }
    }

    /// Presses keys, as from a keyboard. `\u{e004}` is Tab; the others are in the specification of
    /// WebDriver, 17.4.2.
    pub async fn press(&self, key: char) {
        let keys = json!([
            { "type": "keyDown", "value": key.to_string() },
            { "type": "keyUp", "value": key.to_string() },
        ]);
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": keys }]);
        self.post("/actions", json!({ "actions": actions })).await;
    }

    /// What the console says: errors, warnings, and violations of the policy.
    pub async fn console(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        log.as_array().expect("a log").iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that the browser has asked for since the last look.
    pub async fn requests(&self) -> Vec<String> {
        let events = self.events("Network.requestWillBeSent").await;
        let url = |event: &Value| event["request"]["url"].as_str().map(str::to_owned);
        events.iter().filter_map(url).collect()
    }

    /// The longest task of the page in the browser's own trace: the time that it has run, whatever
    /// else the machine had to do. The trace begins anew with each page that is opened.
    pub async fn longest_task(&self) -> Duration {
        // Tells the thread of the page from that of the browser's own first page.
        self.run("performance.mark('this page')").await;
        let events = self.events("Tracing.dataCollected").await;
        let of = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let mark = events.iter().find(|event| event["name"] == "this page").expect("a mark");
        let tasks = events.iter().filter(|event| of(event) == of(mark));
        Duration::from_micros(tasks.filter_map(|task| task["tdur"].as_u64()).max().unwrap_or(0))
    }

    async fn events(&self, method: &str) -> Vec<Value> {
        let log = self.post("/se/log", json!({ "type": "performance" })).await;
        let event = |entry: &Value| -> Option<Value> {
            let mut event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &mut event["message"];
            (event["method"] == method).then(|| event["params"].take())
        };
        log.as_array().expect("a log").iter().filter_map(event).collect()
    }

    /// Takes a picture of the page down to `height`.
    pub async fn picture(&self, path: &Path, (width, height): (u32, u32)) {
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let part = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.devtools("Page.captureScreenshot", part).await;
        let bytes = STANDARD.decode(picture["data"].as_str().expect("base64")).expect("base64");
        std::fs::write(path, bytes).expect("the folder is there");
    }

    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.driver.ask(Method::POST, &path, body).await
    }

    /// Ends the session, so that the browser removes what it has written.
    pub async fn quit(self) {
        let path = format!("/session/{}", self.session);
        self.driver.ask(Method::DELETE, &path, Value::Null).await;
    }
}

impl Driver {
    fn start() -> Option<Self> {
        let set = env::var("CHROMEDRIVER").ok();
        if set.as_deref() == Some("none") {
            return None;
        }
        let spawned = Command::new(set.as_deref().unwrap_or("chromedriver"))
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = match (spawned, set) {
            (Ok(process), _) => process,
            (Err(error), Some(path)) => panic!("{path}: {error}"),
            (Err(_), None) => return None,
        };
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // Read on, or the driver stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, port: port.expect("the driver says its port") })
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the driver runs");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("valid");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("whole").to_bytes();
        let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer["value"].take()
    }
}

impl Drop for Driver {
    /// Tells the driver to end its browsers, which would live on if it were killed. Blocks, since a
    /// test that has failed does not wait for anything else.
    fn drop(&mut self) {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let ask = b"GET /shutdown HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(ask).and_then(|()| stream.read_to_end(&mut Vec::new()));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
