//! The picture in the documentation: latency by load.

use std::{fs, path::Path};

use sim::svg::{self, BOTTOM, HEIGHT, INK, LEFT, Look, RIGHT, Scale, TOP, WIDTH, put};

use crate::{
    contenders::Contender,
    latency::{Level, PERCENTILES, Pool},
};

const FILE: &str = "docs/images/latency.svg";

/// In milliseconds, where the picture ends below: nothing takes less.
const LEAST: f64 = 1.0 / 16.0;

pub fn write(levels: &[Level]) {
    let svg = draw(levels);
    println!("{FILE} ({:.0} kB)", svg.len() as f64 / 1e3);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FILE);
    fs::write(path, svg).expect("the folder is there");
}

fn look(contender: Contender) -> Look {
    match contender {
        Contender::Spawn => Look::Bold,
        Contender::Caller => Look::Thin(1),
        Contender::BufferAndLimit => Look::Thin(0),
        _ => Look::Ideal,
    }
}

fn draw(levels: &[Level]) -> String {
    let mut svg = svg::begin("Latency of a handler with 100 µs of work");
    let all = levels.iter().flat_map(|level| &level.of);
    let scale = Scale::around(all.flat_map(|(_, pool)| millis(pool)), LEAST);
    scale.draw(&mut svg);
    svg::label(&mut svg, "milliseconds");
    for (place, level) in levels.iter().enumerate() {
        draw_percentiles(&mut svg, place);
        draw_load(&mut svg, place, level);
        let (bold, thin): (Vec<_>, Vec<_>) =
            level.of.iter().partition(|(contender, _)| look(*contender) == Look::Bold);
        // The most important last, so that it lies on top.
        for (contender, pool) in thin.into_iter().chain(bold) {
            draw_line(&mut svg, scale, place, look(*contender), millis(pool));
        }
    }
    let contenders = levels[0].of.iter().map(|(contender, _)| *contender);
    svg::legend(&mut svg, contenders.map(|contender| (contender.name(), look(contender))));
    svg.push_str("</svg>\n");
    svg
}

fn millis(pool: &Pool) -> [f64; 3] {
    pool.percentiles().map(|seconds| seconds * 1e3)
}

/// Of a percentile at a load, both by number. The loads are side by side.
fn x(load: usize, percentile: usize) -> f64 {
    const LOADS: f64 = 3.0;
    let width = (WIDTH - LEFT - RIGHT) / LOADS;
    LEFT + width * (load as f64 + (percentile as f64 + 0.5) / PERCENTILES.len() as f64)
}

fn draw_percentiles(svg: &mut String, load: usize) {
    let base = HEIGHT - BOTTOM;
    for (place, part) in PERCENTILES.iter().enumerate() {
        let x = x(load, place);
        put(
            svg,
            format_args!(
                "<path d=\"M{x:.1} {base}v4\" stroke=\"{INK}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">p{}</text>\n",
                base + 17.0,
                part * 100.0
            ),
        );
    }
}

fn draw_load(svg: &mut String, place: usize, level: &Level) {
    put(
        svg,
        format_args!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">\
             {} load, about {:.0} a second</text>\n",
            x(place, 1),
            HEIGHT - 6.0,
            level.title(),
            level.rate
        ),
    );
    if place > 0 {
        let edge = f64::midpoint(x(place - 1, 2), x(place, 0));
        put(
            svg,
            format_args!(
                "<path d=\"M{edge:.1} {TOP}V{}\" stroke=\"{INK}\" stroke-opacity=\".5\"/>\n",
                HEIGHT - BOTTOM
            ),
        );
    }
}

fn draw_line(svg: &mut String, scale: Scale, load: usize, look: Look, values: [f64; 3]) {
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| format!("{:.1},{:.1}", x(load, place), scale.y(*value)))
        .collect();
    put(
        svg,
        format_args!(
            "<polyline fill=\"none\" {} points=\"{}\"/>\n",
            look.stroke(),
            points.join(" ")
        ),
    );
    for point in &points {
        let (x, y) = point.split_once(',').expect("as above");
        put(
            svg,
            format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{}\"/>\n", look.color()),
        );
    }
}
