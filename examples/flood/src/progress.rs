//! Shows that the demonstration goes on.

use std::{
    io::{IsTerminal, Stderr, Write, stderr},
    time::Duration,
};

use tokio::time::{Instant, interval};

const WIDTH: usize = 40;

/// Awaits `work`, which takes about `about`, with a bar; without a terminal, with a line.
pub(crate) async fn during<T>(what: &str, about: Duration, work: impl Future<Output = T>) -> T {
    if !stderr().is_terminal() {
        eprintln!("{what}: about {:.1} s", about.as_secs_f64());
        return work.await;
    }
    let start = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                eprintln!("\r{}", bar(what, 1.0));
                return done;
            }
            _ = ticks.tick() => {
                let share = start.elapsed().as_secs_f64() / about.as_secs_f64();
                eprint!("\r{}", bar(what, share.min(1.0)));
                // A bar that does not show is no reason to stop.
                let _ = stderr().flush();
            }
        }
    }
}

/// A writer for lines between two bars. Clears the bar; the next step draws the bar again below.
pub(crate) fn above() -> Stderr {
    let mut stderr = stderr();
    if stderr.is_terminal() {
        let _ = stderr.write_all(b"\r\x1b[K");
    }
    stderr
}

fn bar(what: &str, share: f64) -> String {
    let full = (share * WIDTH as f64) as usize;
    format!("{what:<20} [{}{}] {:>3.0} %", "#".repeat(full), " ".repeat(WIDTH - full), share * 1e2)
}
