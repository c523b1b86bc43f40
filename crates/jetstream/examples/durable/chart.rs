//! The picture: stored, done, and in hand over time, the kills marked. Legible on light and on dark
//! pages.

use std::{fmt::Write, path::Path};

use tower::BoxError;

use crate::run::{Moment, Run};

/// All in pixels.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
/// The panels: from where to where down.
const COUNTS: (f64, f64) = (64.0, 244.0);
const HANDS: (f64, f64) = (292.0, 382.0);
const HEIGHT: f64 = 420.0;

/// Of a lightness in the middle, so that they stand out from white and from black.
const INK: &str = "#808891";
const COLORS: [&str; 2] = ["#2f81f7", "#d9822b"];
const KILL: &str = "#e5534b";

/// Maps seconds and values to pixels.
struct Plot {
    seconds: f64,
    panel: (f64, f64),
    most: f64,
    logarithmic: bool,
}

impl Plot {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (1.0 + value).ln() / (1.0 + self.most).ln(),
            false => value / self.most,
        };
        self.panel.1 - share * (self.panel.1 - self.panel.0)
    }

    fn line(&self, svg: &mut String, look: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<_> =
            points.map(|(at, value)| format!("{:.1},{:.1}", self.x(at), self.y(value))).collect();
        put(svg, &format!("<polyline fill=\"none\" {look} points=\"{}\"/>\n", points.join(" ")));
    }

    fn grid(&self, svg: &mut String, values: impl Iterator<Item = f64>) {
        for value in values {
            let y = self.y(value);
            let (end, left, base) = (WIDTH - RIGHT, LEFT - 6.0, y + 4.0);
            put(
                svg,
                &format!(
                    "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"{INK}\" stroke-opacity=\".25\"/>\
                     <text x=\"{left}\" y=\"{base:.1}\" text-anchor=\"end\">{value}</text>\n"
                ),
            );
        }
    }
}

pub(crate) fn write(path: &Path, runs: &[Run]) -> Result<(), BoxError> {
    let moments = || runs.iter().flat_map(|run| &run.moments);
    let ends = runs.iter().map(|run| run.took.as_secs_f64() + 0.5);
    let seconds = ends.fold(1.0, f64::max).ceil();
    let most = moments().map(|moment| moment.stored as f64).fold(1.0, f64::max);
    let counts = Plot { seconds, panel: COUNTS, most, logarithmic: false };
    let most = moments().filter_map(|moment| moment.in_hand).max().unwrap_or(1) as f64;
    let hands = Plot { seconds, panel: HANDS, most, logarithmic: true };

    let title = "A ten-fold flood, a worker killed, the broker killed";
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>{title}</title>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"14\" font-weight=\"600\">{title}</text>\n"
    );
    legend(&mut svg, runs);
    axes(&mut svg, &counts, &hands);
    let at = |moment: &Moment| moment.at.as_secs_f64();
    if let Some(run) = runs.first() {
        let dashed = format!("stroke=\"{INK}\" stroke-width=\"2\" stroke-dasharray=\"7 5\"");
        counts.line(&mut svg, &dashed, run.moments.iter().map(|m| (at(m), m.stored as f64)));
        for (after, whom) in &run.kills {
            let (x, anchor) = (counts.x(after.as_secs_f64()), COUNTS.0 - 4.0);
            put(
                &mut svg,
                &format!(
                    "<path d=\"M{x:.1} {}V{}\" stroke=\"{KILL}\" stroke-dasharray=\"3 3\"/>\
                     <text x=\"{x:.1}\" y=\"{anchor}\" text-anchor=\"middle\" fill=\"{KILL}\">\
                     {whom} is killed</text>\n",
                    COUNTS.0, HANDS.1
                ),
            );
        }
    }
    for (run, color) in runs.iter().zip(COLORS).rev() {
        let look = format!("stroke=\"{color}\" stroke-width=\"2\"");
        counts.line(&mut svg, &look, run.moments.iter().map(|m| (at(m), m.done as f64)));
        // A gap while the broker is away.
        for known in run.moments.chunk_by(|a, b| a.in_hand.is_some() == b.in_hand.is_some()) {
            let points = known.iter().filter_map(|m| Some((at(m), m.in_hand? as f64)));
            hands.line(&mut svg, &look, points);
        }
    }
    svg.push_str("</svg>\n");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, svg)?)
}

fn legend(svg: &mut String, runs: &[Run]) {
    let mut x = LEFT;
    let mut entry = |look: &str, name: &str| {
        put(svg, &format!("<path d=\"M{x} 35h22\" stroke-width=\"2\" {look}/>"));
        put(svg, &format!("<text x=\"{}\" y=\"39\">{name}</text>\n", x + 28.0));
        x += 56.0 + 7.0 * name.chars().count() as f64;
    };
    entry(&format!("stroke=\"{INK}\" stroke-dasharray=\"7 5\""), "stored");
    for (run, color) in runs.iter().zip(COLORS) {
        entry(&format!("stroke=\"{color}\""), run.kind.name());
    }
}

fn axes(svg: &mut String, counts: &Plot, hands: &Plot) {
    let step = if counts.most > 5000.0 { 2000.0 } else { 500.0 };
    counts.grid(svg, (0..).map(|nth| f64::from(nth) * step).take_while(|v| *v <= counts.most));
    hands.grid(svg, [0.0, 10.0, 100.0, 1000.0].into_iter().filter(|v| *v <= hands.most));
    for (panel, name) in [(COUNTS, "messages"), (HANDS, "in hand")] {
        let middle = f64::midpoint(panel.0, panel.1);
        put(
            svg,
            &format!(
                "<text transform=\"translate(13 {middle}) rotate(-90)\" text-anchor=\"middle\">\
                 {name}</text>\n"
            ),
        );
    }
    let every = (counts.seconds / 10.0).ceil().max(1.0);
    for nth in 0..=(counts.seconds / every) as u32 {
        let seconds = f64::from(nth) * every;
        let (x, below) = (counts.x(seconds), HANDS.1 + 18.0);
        put(
            svg,
            &format!("<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{seconds} s</text>"),
        );
    }
}

fn put(svg: &mut String, what: &str) {
    svg.write_str(what).expect("a string takes anything");
}
