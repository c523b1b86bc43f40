//! A broker of our own: `nats-server` on a free port, with a temporary store.
#![allow(dead_code, unreachable_pub, reason = "not everybody uses all of it")]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectOptions};

const NEEDED: &str = "nats-server is needed, and was not found. Install it with \
    `apt-get install nats-server` (Debian, Ubuntu), `brew install nats-server` (Homebrew), or from \
    https://github.com/nats-io/nats-server/releases. If it is not on PATH, say where by NATS_SERVER";

/// A running `nats-server`. Killed and removed when dropped.
pub struct Broker {
    store: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Broker {
    /// Starts a broker. An error says what to install.
    pub async fn start() -> Result<Self, String> {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let name = format!("tower-load-leveling-{}-{nth}", std::process::id());
        let store = std::env::temp_dir().join(name);
        fs::create_dir_all(&store).map_err(|error| error.to_string())?;
        let mut broker = Self { store, port: 0, process: None };
        // Another process may take the port between the look and the start.
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            let free = free.and_then(|listener| listener.local_addr());
            broker.port = free.map_err(|error| error.to_string())?.port();
            broker.spawn()?;
            if broker.listens().await {
                return Ok(broker);
            }
            broker.kill();
        }
        Err("nats-server does not start: see the log in its store".to_owned())
    }

    /// Kills the broker with signal 9. What it stored stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the broker's process without ending it: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
        // The signal reaches the threads one by one. A thread that still runs may answer.
        while !self.is_stopped() {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether each thread has stopped, by the letter after the name in parentheses. True where
    /// there is no `/proc`.
    fn is_stopped(&self) -> bool {
        let process = self.process.as_ref().expect("running").id();
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        })
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("running").id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &process]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no SIG{signal}");
    }

    /// Starts it again on the same port and store.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().expect("it was there before");
        assert!(self.listens().await, "nats-server did not come back");
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A new connection, which comes back by itself after a restart.
    pub async fn connect(&self) -> Client {
        connect(&self.url()).await
    }

    fn spawn(&mut self) -> Result<(), String> {
        let program = std::env::var_os("NATS_SERVER");
        let program = program.unwrap_or_else(|| "nats-server".into());
        let log = fs::File::options().create(true).append(true).open(self.store.join("log"));
        let child = Command::new(program)
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--store_dir")
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
            .spawn();
        self.process = Some(child.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NEEDED.to_owned(),
            _ => format!("nats-server cannot be started: {error}"),
        })?);
        Ok(())
    }

    /// Waits until JetStream answers.
    async fn listens(&mut self) -> bool {
        for _ in 0..600 {
            let process = self.process.as_mut().expect("spawned");
            if process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            // Not `query_account`: it cannot read the answer of 2.9.
            if let Ok(client) = async_nats::connect(self.url()).await
                && client.request("$JS.API.INFO", "".into()).await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

/// A connection to a broker that may come and go.
pub async fn connect(url: &str) -> Client {
    ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .connect(url)
        .await
        .expect("connects later, if not now")
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.store);
    }
}
