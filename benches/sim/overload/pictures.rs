//! The pictures in the documentation: the limit over time, when something changes.

use std::{fs, io, path::Path};

use sim::svg::Look;

use crate::{
    backend::Power,
    chart::{Chart, Line},
    contestants::Contestant,
    report::LOOK,
    runs,
    scenario::Scenario,
    threads,
    traffic::Steps,
};

/// A picture, under the name of its file.
struct Picture {
    file: &'static str,
    title: &'static str,
    scenario: Scenario,
    /// The limit that would be right.
    ideal: fn(f64) -> f64,
}

/// The most accurate, the best known, and the most widely used in spirit, of those that are not
/// ours.
const OTHERS: [&str; 3] = [".NET hill climbing", "Envoy gradient", "Vegas, windowed"];

/// One of many; they look alike.
const SEED: u64 = 1;

/// When it changes, in seconds.
const CHANGE: f64 = 20.0;

/// Writes them all into a folder.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    println!();
    for picture in [step_down(), step_up(), slowdown(), drift()] {
        let svg = draw(&picture);
        let path = folder.join(picture.file);
        println!(
            "{} ({:.0} kB)",
            Path::new("docs/images").join(picture.file).display(),
            svg.len() as f64 / 1e3
        );
        fs::write(path, svg)?;
    }
    Ok(())
}

fn step_down() -> Picture {
    Picture {
        file: "step-down.svg",
        title: "A pool of 16 servers loses 12, at twice its load",
        scenario: changing(|now| Power::pool(if now < CHANGE { 16.0 } else { 4.0 }, 0.02)),
        ideal: |now| if now < CHANGE { 16.0 } else { 4.0 },
    }
}

fn step_up() -> Picture {
    Picture {
        file: "step-up.svg",
        title: "A pool of 4 servers becomes 32, at 1600 requests a second",
        scenario: changing(|now| Power::pool(if now < CHANGE { 4.0 } else { 32.0 }, 0.02)),
        ideal: |now| if now < CHANGE { 4.0 } else { 32.0 },
    }
}

fn slowdown() -> Picture {
    let power = |now| Power::pool(64.0, if now < CHANGE { 0.02 } else { 0.08 });
    Picture {
        file: "slowdown.svg",
        title: "64 servers get four times slower, at 600 requests a second: 48 are needed",
        scenario: Scenario { rate: Steps::always(600.0), ..changing(power) },
        ideal: |now| if now < CHANGE { 12.0 } else { 48.0 },
    }
}

fn drift() -> Picture {
    let service = |now: f64| 0.02 + 0.04 * ((now - CHANGE) / 60.0).clamp(0.0, 1.0);
    let scenario = changing(|now| Power::pool(16.0, service(now)));
    Picture {
        file: "drift.svg",
        title: "Calls to a pool of 16 servers get slower, from 20 to 60 ms in a minute",
        scenario: Scenario { length: 90.0, ..scenario },
        ideal: |_| 16.0,
    }
}

/// A minute at 1600 requests a second.
fn changing(power: impl Fn(f64) -> Power) -> Scenario {
    Scenario { length: 60.0, power: Steps::sampled(0.5, 90.0, power), ..Scenario::base() }
}

fn draw(picture: &Picture) -> String {
    let length = picture.scenario.length;
    let others = OTHERS.map(Contestant::incumbent);
    let looks = [Look::Bold, Look::Thin(0), Look::Thin(1), Look::Thin(2)];
    let contestants: Vec<(Contestant, Look)> =
        [Contestant::Bdp(None)].into_iter().chain(others).zip(looks).collect();
    let mut lines = threads::map(&contestants, |(contestant, look)| {
        let report = runs::run(&picture.scenario, *contestant, SEED);
        let values = report.limits(0.0, length).collect();
        Line { name: contestant.name(), look: *look, values }
    });
    let moments = (0..(length / LOOK) as u32).map(|look| f64::from(look) * LOOK);
    let ideal = moments.map(picture.ideal).collect();
    lines.push(Line { name: "ideal".to_owned(), look: Look::Ideal, values: ideal });
    Chart { title: picture.title.to_owned(), label: "limit", length, lines }.draw()
}
