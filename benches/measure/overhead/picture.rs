//! The picture in the documentation: what a call costs through everything that could be put there.

use std::{fs, path::Path};

use sim::svg::{self, INK, Look, RIGHT, TOP, WIDTH, put};

use crate::contenders::Contender::{self, Adaptive, Caller, Spawn};

const FILE: &str = "docs/images/overhead.svg";

/// In pixels: where bars begin, the height of one, and the space of one.
const START: f64 = 190.0;
const BAR: f64 = 12.0;
const ROW: f64 = 19.0;

/// Of each contender its time as a ratio to that of `base`.
pub(crate) fn write(of: &[(Contender, f64)], base: Contender) {
    let svg = draw(of, base);
    println!("{FILE} ({:.0} kB)", svg.len() as f64 / 1e3);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::write(root.join(FILE), svg).expect("the folder is there");
}

fn draw(of: &[(Contender, f64)], base: Contender) -> String {
    let mut svg = svg::begin("Time of a call, no-op inner, 64 callers on 2 threads");
    let most = of.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    // Room for the number beside the longest.
    let unit = (WIDTH - START - RIGHT - 40.0) / most;
    put(
        &mut svg,
        format_args!(
            "<text x=\"{START}\" y=\"39\">÷ {}</text>\n\
             <path d=\"M{x:.1} {TOP}V{:.1}\" stroke=\"{INK}\" stroke-opacity=\".5\"/>\n",
            base.name(),
            TOP + ROW * of.len() as f64,
            x = START + unit,
        ),
    );
    for (row, (contender, ratio)) in of.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let color = match contender {
            Spawn | Caller | Adaptive => Look::Bold.color(),
            _ => INK,
        };
        put(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{START}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" \
                 fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{text:.1}\">{ratio:.2}</text>\n",
                START - 8.0,
                contender.name(),
                y + (ROW - BAR) / 2.0,
                START + ratio * unit + 6.0,
                text = y + ROW / 2.0 + 4.0,
                width = ratio * unit,
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
