//! Line charts over time, legible on light and on dark pages.

use std::fmt::Write;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What should be.
    Ideal,
    /// What it is about.
    Bold,
    /// What it is compared with: by number.
    Thin(usize),
}

/// All in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 40.0;
/// A point for each of these columns: the files stay small.
const COLUMN: f64 = 2.0;

/// Of a lightness in the middle, so that they stand out from white and from black.
const INK: &str = "#808891";
const BOLD: &str = "#2f81f7";
const THIN: [&str; 3] = ["#d9822b", "#2da44e", "#b46be0"];

impl Look {
    fn stroke(self) -> String {
        match self {
            Self::Ideal => {
                format!("stroke=\"{INK}\" stroke-width=\"2\" stroke-dasharray=\"7 5\"")
            }
            Self::Bold => format!("stroke=\"{BOLD}\" stroke-width=\"2.5\""),
            Self::Thin(number) => {
                format!("stroke=\"{}\" stroke-width=\"1.5\"", THIN[number % THIN.len()])
            }
        }
    }
}

impl Chart {
    pub fn draw(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
             <title>{0}</title>\n\
             <text x=\"{LEFT}\" y=\"16\" font-size=\"14\" font-weight=\"600\">{0}</text>\n",
            self.title
        );
        self.draw_axes(&mut svg);
        // The most important last, so that it lies on top.
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|line| line.look == Look::Bold);
        lines.iter().for_each(|line| self.draw_line(&mut svg, line));
        self.draw_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    /// The powers of two around all values.
    fn scale(&self) -> (i32, i32) {
        let values = || self.lines.iter().flat_map(|line| &line.values);
        let low = values().copied().fold(f64::INFINITY, f64::min).max(1.0);
        let high = values().copied().fold(1.0, f64::max);
        (low.log2().floor() as i32, (high.log2().ceil() as i32).max(1))
    }

    fn x(&self, time: f64) -> f64 {
        LEFT + time / self.length * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.scale();
        let share = (value.max(1.0).log2() - f64::from(low)) / f64::from(high - low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn draw_axes(&self, svg: &mut String) {
        let (low, high) = self.scale();
        for power in low..=high {
            let value = 2_f64.powi(power);
            let y = self.y(value);
            put(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"{INK}\" stroke-opacity=\".25\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
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
        let middle = f64::midpoint(TOP, base);
        put(
            svg,
            format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">time in seconds</text>\n\
             <text transform=\"translate(13 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                f64::midpoint(LEFT, WIDTH),
                HEIGHT - 6.0,
                self.label
            ),
        );
    }

    fn draw_line(&self, svg: &mut String, line: &Line) {
        let columns = ((WIDTH - LEFT - RIGHT) / COLUMN) as usize;
        let count = line.values.len();
        let step = count.div_ceil(columns).max(1);
        let mut points = String::new();
        for (place, value) in line.values.iter().enumerate().step_by(step) {
            let x = self.x(place as f64 / count as f64 * self.length);
            put(&mut points, format_args!("{x:.0},{:.0} ", self.y(*value)));
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

    fn draw_legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for line in &self.lines {
            put(
                svg,
                format_args!(
                    "<path d=\"M{x} 35h22\" {}/><text x=\"{}\" y=\"39\">{}</text>\n",
                    line.look.stroke(),
                    x + 28.0,
                    line.name
                ),
            );
            x += 52.0 + 7.0 * line.name.chars().count() as f64;
        }
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes anything");
}
