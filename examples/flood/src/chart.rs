//! The picture: arrivals, completions, queue and in flight over time, a panel for each run.

use std::{fmt::Write, path::Path, time::Duration};

use crate::{
    Plan, Result,
    report::{EVERY, Moment, Run},
};

const WIDTH: f64 = 900.0;
const PANEL: f64 = 260.0;
const MARGIN: f64 = 60.0;

/// A line in the picture: its name, its colour, its points (seconds, value).
struct Series {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

pub(crate) fn write(path: &Path, runs: &[Run; 2], plan: &Plan) -> Result<()> {
    let height = 2.0 * PANEL + 90.0;
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"
 font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>"#
    )?;
    let end = runs.iter().flat_map(|run| run.timeline.last()).map(|last| last.at.as_secs_f64());
    let end = end.fold(plan.length().as_secs_f64(), f64::max);
    for (nth, run) in runs.iter().enumerate() {
        panel(&mut svg, 30.0 + nth as f64 * (PANEL + 25.0), run, plan, end)?;
    }
    writeln!(svg, "</svg>")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, svg)?)
}

fn panel(svg: &mut String, top: f64, run: &Run, plan: &Plan, end: f64) -> Result<()> {
    let series = series(run, end);
    let most = series.iter().flat_map(|line| &line.points).map(|point| point.1);
    let most = most.fold(1.0, f64::max);
    let x = |seconds: f64| MARGIN + (WIDTH - 2.0 * MARGIN) * seconds / end;
    // From one to a few thousand: only a logarithm shows both.
    let y =
        |value: f64| top + PANEL - 40.0 - (PANEL - 70.0) * (1.0 + value).ln() / (1.0 + most).ln();
    let flood = plan.flood();
    let (from, to) = (x(flood.start.as_secs_f64()), x(flood.end.as_secs_f64()));
    let (bottom, width) = (y(0.0), to - from);
    writeln!(
        svg,
        r##"<text x="{MARGIN}" y="{}" font-size="15">{}</text>
<rect x="{from:.1}" y="{:.1}" width="{width:.1}" height="{:.1}" fill="#f2f2f2"/>
<line x1="{MARGIN}" y1="{bottom:.1}" x2="{:.1}" y2="{bottom:.1}" stroke="#888"/>"##,
        top + 8.0,
        run.name,
        y(most),
        bottom - y(most),
        WIDTH - MARGIN,
    )?;
    let mut tick = 1.0;
    while tick <= most {
        let at = y(tick);
        writeln!(
            svg,
            r##"<text x="{}" y="{:.1}" text-anchor="end" fill="#666">{tick}</text>"##,
            MARGIN - 6.0,
            at + 4.0
        )?;
        tick *= 10.0;
    }
    for seconds in (0..=end as u32).step_by(2) {
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#666">{seconds} s</text>"##,
            x(f64::from(seconds)),
            bottom + 16.0
        )?;
    }
    for (nth, line) in series.iter().enumerate() {
        let points: Vec<_> = line
            .points
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
            .collect();
        writeln!(
            svg,
            r#"<polyline fill="none" stroke="{0}" stroke-width="1.6" points="{1}"/>
<text x="{2}" y="{3}" fill="{0}">{4}</text>"#,
            line.colour,
            points.join(" "),
            300.0 + 150.0 * nth as f64,
            top + 8.0,
            line.name
        )?;
    }
    Ok(())
}

fn series(run: &Run, end: f64) -> [Series; 4] {
    let arrivals = per_second(run.answers.iter().map(|answer| answer.sent), end);
    let completions = run.timeline.windows(5).map(|moments| {
        let (first, last) = (moments[0], moments[4]);
        let seconds = (last.at - first.at).as_secs_f64().max(EVERY.as_secs_f64());
        (last.at.as_secs_f64(), (last.stored - first.stored) as f64 / seconds)
    });
    let of = |value: fn(&Moment) -> usize| {
        run.timeline.iter().map(|moment| (moment.at.as_secs_f64(), value(moment) as f64)).collect()
    };
    [
        Series { name: "arrivals / s", colour: "#999", points: arrivals },
        Series { name: "completions / s", colour: "#2a7", points: completions.collect() },
        Series { name: "queue", colour: "#27c", points: of(|moment| moment.queued) },
        Series { name: "in the database", colour: "#c33", points: of(|moment| moment.in_flight) },
    ]
}

fn per_second(times: impl Iterator<Item = Duration>, end: f64) -> Vec<(f64, f64)> {
    const BIN: f64 = 0.2;
    let mut bins = vec![0.0; (end / BIN) as usize + 1];
    for time in times {
        if let Some(bin) = bins.get_mut((time.as_secs_f64() / BIN) as usize) {
            *bin += 1.0 / BIN;
        }
    }
    bins.into_iter().enumerate().map(|(nth, value)| ((nth as f64 + 0.5) * BIN, value)).collect()
}
