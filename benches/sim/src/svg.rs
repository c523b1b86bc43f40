//! What the pictures of the benches have in common; legible on light and on dark pages.

use std::fmt::{Arguments, Write};

/// All in pixels.
pub const WIDTH: f64 = 720.0;
pub const HEIGHT: f64 = 320.0;
pub const LEFT: f64 = 48.0;
pub const RIGHT: f64 = 12.0;
pub const TOP: f64 = 52.0;
pub const BOTTOM: f64 = 40.0;

/// Of a lightness in the middle, so that they stand out from white and from black.
pub const INK: &str = "#808891";
const BOLD: &str = "#2f81f7";
const THIN: [&str; 3] = ["#d9822b", "#2da44e", "#b46be0"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What should be.
    Ideal,
    /// What it is about.
    Bold,
    /// What it is compared with: by number.
    Thin(usize),
}

impl Look {
    pub fn color(self) -> &'static str {
        match self {
            Self::Ideal => INK,
            Self::Bold => BOLD,
            Self::Thin(number) => THIN[number % THIN.len()],
        }
    }

    pub fn stroke(self) -> String {
        let rest = match self {
            Self::Ideal => "\"2\" stroke-dasharray=\"7 5\"",
            Self::Bold => "\"2.5\"",
            Self::Thin(_) => "\"1.5\"",
        };
        format!("stroke=\"{}\" stroke-width={rest}", self.color())
    }
}

/// A picture with nothing but a title in it, to which `</svg>` is still to be added.
pub fn begin(title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>{title}</title>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"14\" font-weight=\"600\">{title}</text>\n"
    )
}

/// A vertical axis where twice as much is always the same way up.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    low: i32,
    high: i32,
}

impl Scale {
    /// The powers of two around all values; what is less than the least counts as that.
    pub fn around(values: impl Iterator<Item = f64> + Clone, least: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(least).log2().floor() as i32;
        let high = values.fold(least, f64::max).log2().ceil() as i32;
        Self { low, high: high.max(low + 1) }
    }

    pub fn y(self, value: f64) -> f64 {
        let [low, high] = [self.low, self.high].map(f64::from);
        let share = (value.log2().max(low) - low) / (high - low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// A line at every power of two.
    pub fn draw(self, svg: &mut String) {
        for power in self.low..=self.high {
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
    }
}

/// What the vertical axis shows.
pub fn label(svg: &mut String, text: &str) {
    let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
    put(
        svg,
        format_args!(
            "<text transform=\"translate(13 {middle}) rotate(-90)\" \
             text-anchor=\"middle\">{text}</text>\n"
        ),
    );
}

/// Which look is whose, in a row below the title.
pub fn legend<'a>(svg: &mut String, entries: impl Iterator<Item = (&'a str, Look)>) {
    let mut x = LEFT;
    for (name, look) in entries {
        put(
            svg,
            format_args!(
                "<path d=\"M{x} 35h22\" {}/><text x=\"{}\" y=\"39\">{name}</text>\n",
                look.stroke(),
                x + 28.0
            ),
        );
        x += 52.0 + 7.0 * name.chars().count() as f64;
    }
}

pub fn put(svg: &mut String, what: Arguments<'_>) {
    svg.write_fmt(what).expect("a string takes anything");
}
