//! Line charts over time.

use sim::svg::{self, BOTTOM, HEIGHT, INK, LEFT, Look, RIGHT, Scale, WIDTH, put};

/// A chart with a logarithmic scale: limits are right or wrong by a factor.
#[derive(Debug)]
pub struct Chart {
    pub title: String,
    /// Of the vertical axis.
    pub label: &'static str,
    /// In seconds.
    pub length: f64,
    pub lines: Vec<Line>,
}

#[derive(Debug)]
pub struct Line {
    pub name: String,
    pub look: Look,
    pub values: Vec<f64>,
}

/// A point for each of these columns, in pixels: the files stay small.
const COLUMN: f64 = 2.0;

impl Chart {
    pub fn draw(&self) -> String {
        let mut svg = svg::begin(&self.title);
        let scale = Scale::around(self.lines.iter().flat_map(|line| &line.values).copied(), 1.0);
        scale.draw(&mut svg);
        self.draw_time(&mut svg);
        svg::label(&mut svg, self.label);
        // The most important last, so that it lies on top.
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|line| line.look == Look::Bold);
        lines.iter().for_each(|line| self.draw_line(&mut svg, scale, line));
        svg::legend(&mut svg, self.lines.iter().map(|line| (line.name.as_str(), line.look)));
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, time: f64) -> f64 {
        LEFT + time / self.length * (WIDTH - LEFT - RIGHT)
    }

    fn draw_time(&self, svg: &mut String) {
        let base = HEIGHT - BOTTOM;
        for time in (0..=self.length as u32).step_by(10) {
            let x = self.x(f64::from(time));
            put(
                svg,
                format_args!(
                    "<path d=\"M{x:.1} {base}v4\" stroke=\"{INK}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{time}</text>\n",
                    base + 17.0
                ),
            );
        }
        put(
            svg,
            format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">time in seconds</text>\n",
                f64::midpoint(LEFT, WIDTH),
                HEIGHT - 6.0
            ),
        );
    }

    fn draw_line(&self, svg: &mut String, scale: Scale, line: &Line) {
        let columns = ((WIDTH - LEFT - RIGHT) / COLUMN) as usize;
        let count = line.values.len();
        let step = count.div_ceil(columns).max(1);
        let mut points = String::new();
        for (place, value) in line.values.iter().enumerate().step_by(step) {
            let x = self.x(place as f64 / count as f64 * self.length);
            put(&mut points, format_args!("{x:.0},{:.0} ", scale.y(*value)));
        }
        put(
            svg,
            format_args!(
                "<polyline fill=\"none\" stroke-linejoin=\"round\" {} points=\"{}\"/>\n",
                line.look.stroke(),
                points.trim_end()
            ),
        );
    }
}
