//! Settings from a TOML file, read again whenever the file changes.
//!
//! ```sh
//! cargo run --example config --features serde                  # edits a file of its own, and ends
//! cargo run --example config --features serde -- leveler.toml  # watches yours, until Ctrl-C
//! ```
//!
//! The file has the settings in a table `[leveler]`. `settings` in the docs of the crate has all
//! keys. A limit, a capacity, a wait limit or a rate changes while calls wait and run. For other
//! settings the program says that it has to be started anew. A file with a mistake changes nothing,
//! and the error names the key.

use std::{
    convert::Infallible,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::{interval, sleep};
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_load_leveling::{Handle, LoadLevelLayer, settings::Settings};

/// The configuration of the program. Other parts of it would have tables of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    leveler: Settings,
}

/// A service that takes 20 ms: a limit of 4 makes 200 calls a second of it.
const SERVICE_TIME: Duration = Duration::from_millis(20);
/// The time between two requests: 500 a second.
const BETWEEN: Duration = Duration::from_millis(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the leveler, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();

    match env::args_os().nth(1) {
        Some(path) => run(Path::new(&path)).await,
        None => {
            let path = env::temp_dir().join(format!("leveler-{}.toml", std::process::id()));
            fs::write(&path, EDITS[0].1)?;
            let result = tokio::select! {
                result = run(&path) => result,
                result = edit(path.clone()) => result,
            };
            fs::remove_file(&path)?;
            result
        }
    }
}

/// Serves requests with the settings of a file, and follows the file.
async fn run(path: &Path) -> Result<(), BoxError> {
    let mut text = fs::read_to_string(path)?;
    let config: Config = toml::from_str(&text)?;
    let layer = LoadLevelLayer::builder().settings(config.leveler).build()?;
    let handle = layer.handle();
    let inner = service_fn(|()| async {
        sleep(SERVICE_TIME).await;
        Ok::<_, Infallible>(())
    });
    let mut service = ServiceBuilder::new().layer(layer).service(inner);

    let (mut requests, mut report) = (interval(BETWEEN), interval(Duration::from_millis(500)));
    report.tick().await;
    let mut before = handle.stats();
    loop {
        tokio::select! {
            _ = requests.tick() => drop(tokio::spawn(service.call(()))),
            _ = report.tick() => {
                let now = handle.stats();
                let done = now.succeeded - before.succeeded;
                let turned_away = now.refused.total() + now.removed.total()
                    - before.refused.total() - before.removed.total();
                println!(
                    "limit {:>3}   {:>4} done a second   {:>4} turned away   {:>3} wait",
                    now.limit, done * 2, turned_away * 2, now.queued,
                );
                before = now;
                // A program with other things to do would watch the file with the crate `notify`,
                // or read it again on SIGHUP.
                let new = fs::read_to_string(path)?;
                if new != text {
                    text = new;
                    reload(&handle, &text);
                }
            }
        }
    }
}

/// Applies a changed file. A mistake in it changes nothing.
fn reload(handle: &Handle, text: &str) {
    let config: Config = match toml::from_str(text) {
        Ok(config) => config,
        Err(error) => return println!("\nthe file has a mistake:\n{error}"),
    };
    match handle.apply(&config.leveler) {
        Ok(rest) if rest.is_empty() => println!("\nthe new settings are in force"),
        Ok(rest) => println!("\nthe new settings are in force; after a restart also: {rest:?}"),
        Err(error) => println!("\nthe settings make no sense: {error}"),
    }
}

/// What the example does to its own file, one edit every 1.1 s.
const EDITS: [(&str, &str); 5] = [
    ("", "[leveler]\nname = 'orders'\ncapacity = 40\nmax_wait = '100ms'\nconcurrency = 4\n"),
    (
        "the backend has got more workers",
        "[leveler]\nname = 'orders'\ncapacity = 40\nmax_wait = '100ms'\nconcurrency = 16\n",
    ),
    (
        "a slip of the pen",
        "[leveler]\nname = 'orders'\ncapacity = 40\nmax_weight = '100ms'\nconcurrency = 16\n",
    ),
    (
        "nonsense",
        "[leveler]\nname = 'orders'\ncapacity = 40\nmax_wait = '100ms'\nconcurrency = 0\n",
    ),
    (
        "nobody waits for long any more, and the newest go first",
        "[leveler]\nname = 'orders'\ncapacity = 40\nmax_wait = '20ms'\nconcurrency = 8\n\
         order = 'lifo'\n",
    ),
];

async fn edit(path: PathBuf) -> Result<(), BoxError> {
    for (why, text) in &EDITS[1..] {
        sleep(Duration::from_millis(1100)).await;
        println!("\n-- {why} --");
        fs::write(&path, text)?;
    }
    sleep(Duration::from_millis(1100)).await;
    Ok(())
}
