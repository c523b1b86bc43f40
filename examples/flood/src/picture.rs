//! The picture: a column for each contender, with the answered orders above and the latencies
//! below. The colours are of middle lightness, for light and dark pages.

use std::{fmt::Write, ops::Range, path::Path, time::Duration};

use crate::{
    Result,
    plan::{PATIENCE, Plan},
    run::{Run, quantile},
};

/// The width of the picture, in pixels as all lengths below.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 8.0;
const GAP: f64 = 16.0;
/// The upper row, from top to bottom. The lower row is next.
const RATES: Range<f64> = 108.0..270.0;
const LATENCIES: Range<f64> = 306.0..428.0;

const INK: &str = "#808891";
const ANSWERED: &str = "#2f81f7";
const WASTED: &str = "#e5484d";

/// The width of a bin, in seconds.
const BIN: f64 = 0.25;
/// The lowest and the highest latency on the axis, in milliseconds.
const FASTEST: f64 = 1.0;
const SLOWEST: f64 = 2000.0;
/// The time shown after the last order was sent, in seconds.
const MORE: f64 = 2.0;

pub(crate) fn write(path: &Path, runs: &[Run], plan: &Plan) -> Result<()> {
    let possible = runs.iter().map(|run| run.possible).fold(1.0, f64::max);
    let scales = Scales {
        end: plan.length().as_secs_f64() + MORE,
        most: 1.5 * possible,
        panel: (WIDTH - LEFT - RIGHT - GAP * (runs.len() - 1) as f64) / runs.len() as f64,
    };
    let mut svg = String::new();
    head(&mut svg, plan)?;
    for (nth, run) in runs.iter().enumerate() {
        let left = LEFT + nth as f64 * (scales.panel + GAP);
        rates(&mut svg, left, &scales, run, plan)?;
        latencies(&mut svg, left, &scales, run)?;
        seconds(&mut svg, left, &scales)?;
    }
    axes(&mut svg, &scales)?;
    writeln!(svg, "</svg>")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, svg)?)
}

/// The scales, the same for all panels.
struct Scales {
    /// The end of the time axis, in seconds.
    end: f64,
    /// The top of the rate axis, in orders a second.
    most: f64,
    /// The width of a panel.
    panel: f64,
}

impl Scales {
    fn x(&self, left: f64, seconds: f64) -> f64 {
        left + self.panel * (seconds / self.end).min(1.0)
    }

    fn rate(&self, rate: f64) -> f64 {
        RATES.end - (RATES.end - RATES.start) * (rate / self.most).min(1.0)
    }

    fn latency(milliseconds: f64) -> f64 {
        let share =
            (milliseconds.clamp(FASTEST, SLOWEST) / FASTEST).ln() / (SLOWEST / FASTEST).ln();
        LATENCIES.end - (LATENCIES.end - LATENCIES.start) * share
    }

    fn bins(&self) -> usize {
        (self.end / BIN) as usize
    }

    /// Returns how many of the times fall into each bin, as a rate.
    fn rates(&self, times: impl Iterator<Item = Duration>) -> Vec<f64> {
        let mut bins = vec![0.0; self.bins()];
        for time in times {
            if let Some(bin) = bins.get_mut((time.as_secs_f64() / BIN) as usize) {
                *bin += 1.0 / BIN;
            }
        }
        bins
    }

    /// A path along the middles of the bins, in steps.
    fn steps(&self, left: f64, values: impl Iterator<Item = f64>) -> String {
        let mut path = String::new();
        for (nth, value) in values.enumerate() {
            let (from, to) = (nth as f64 * BIN, (nth + 1) as f64 * BIN);
            let y = self.rate(value);
            let _ = write!(path, "L{:.1} {y:.1}H{:.1}", self.x(left, from), self.x(left, to));
        }
        path.replace("L", "V").replacen('V', "L", 1)
    }
}

fn head(svg: &mut String, plan: &Plan) -> Result<()> {
    let length = plan.phases[1].1.as_secs_f64();
    let title = format!("{length:.0} seconds of ten times what the database can do");
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
 font-family="system-ui, sans-serif" font-size="13" fill="{INK}">
<title>{title}</title>
<text x="{LEFT}" y="20" font-size="17" font-weight="600">{title}</text>"#
    )?;
    let mut x = LEFT;
    let mut legend = |mark: &str, text: &str| {
        let written = writeln!(
            svg,
            r#"<g transform="translate({x} 42)">{mark}<text x="28" y="4">{text}</text></g>"#
        );
        x += 46.0 + 6.3 * text.chars().count() as f64;
        written
    };
    let area = |color: &str, opacity: &str| {
        format!(r#"<rect y="-6" width="22" height="12" fill="{color}" fill-opacity="{opacity}"/>"#)
    };
    legend(&area(ANSWERED, ".75"), "answered in time")?;
    legend(&area(WASTED, ".75"), "work for clients long gone")?;
    legend(&area(INK, ".22"), "offered")?;
    legend(
        &format!(r#"<path d="M0 0h22" stroke="{INK}" stroke-width="2" stroke-dasharray="6 4"/>"#),
        "possible: what the database does alone",
    )?;
    Ok(())
}

fn rates(svg: &mut String, left: f64, scales: &Scales, run: &Run, plan: &Plan) -> Result<()> {
    let flood = plan.flood();
    writeln!(
        svg,
        r#"<text x="{left}" y="74" font-size="15" font-weight="600">{}</text>
<text x="{left}" y="93">in the flood: {:.0} % of what is possible</text>"#,
        run.contender.name(),
        run.goodput(&flood) / run.possible * 1e2,
    )?;
    let bottom = scales.rate(0.0);
    let offered = scales.rates(run.answers.iter().map(|answer| answer.sent));
    let answered = scales.rates(run.answered().map(|(at, _)| at));
    let wasted = scales.rates(run.wasted());
    let area = |path: &str, color: &str, opacity: &str| {
        let right = scales.x(left, scales.bins() as f64 * BIN);
        format!(
            r#"<path d="M{left:.1} {bottom:.1}{path}L{right:.1} {bottom:.1}Z"
 fill="{color}" fill-opacity="{opacity}"/>"#
        )
    };
    let both = answered.iter().zip(&wasted).map(|(answered, wasted)| answered + wasted);
    let ours = scales.steps(left, answered.iter().copied());
    // The area between: forward along the sum, and back along the answered orders.
    let lost = scales.steps(left, both);
    writeln!(svg, "{}", area(&scales.steps(left, offered.into_iter()), INK, ".22"))?;
    writeln!(svg, "{}", area(&ours, ANSWERED, ".75"))?;
    if wasted.iter().any(|rate| *rate > 0.0) {
        let right = scales.x(left, scales.bins() as f64 * BIN);
        writeln!(
            svg,
            r#"<path fill-rule="evenodd" d="M{left:.1} {bottom:.1}{lost}L{right:.1} {bottom:.1}Z
M{left:.1} {bottom:.1}{ours}L{right:.1} {bottom:.1}Z" fill="{WASTED}" fill-opacity=".75"/>"#
        )?;
    }
    let middle = scales.x(left, f64::midpoint(flood.start.as_secs_f64(), flood.end.as_secs_f64()));
    let times = plan.phases[1].0;
    writeln!(
        svg,
        r#"<path d="M{left:.1} {:.1}h{:.1}" stroke="{INK}" stroke-width="2" stroke-dasharray="6 4"/>
<text x="{middle:.1}" y="{:.1}" text-anchor="middle" font-size="12">↑ {times:.0} ×</text>"#,
        scales.rate(run.possible),
        scales.panel,
        RATES.start + 14.0,
    )?;
    Ok(())
}

fn latencies(svg: &mut String, left: f64, scales: &Scales, run: &Run) -> Result<()> {
    let mut bins = vec![Vec::new(); scales.bins()];
    for (at, took) in run.answered() {
        if let Some(bin) = bins.get_mut((at.as_secs_f64() / BIN) as usize) {
            bin.push(took);
        }
    }
    let (mut median, mut spread, mut pen) = (String::new(), String::new(), "M");
    for (nth, bin) in bins.into_iter().enumerate() {
        let of = |q| quantile(q, bin.clone()).map(|time| Scales::latency(time.as_secs_f64() * 1e3));
        let (Some(low), Some(middle), Some(high)) = (of(0.1), of(0.5), of(0.9)) else {
            pen = "M";
            continue;
        };
        let (from, to) = (scales.x(left, nth as f64 * BIN), scales.x(left, (nth + 1) as f64 * BIN));
        write!(median, "{pen}{from:.1} {middle:.1}H{to:.1}")?;
        write!(spread, "M{from:.1} {high:.1}H{to:.1}V{:.1}H{from:.1}Z", low.max(high + 1.0))?;
        pen = "L";
    }
    let patience = Scales::latency(PATIENCE.as_secs_f64() * 1e3);
    writeln!(
        svg,
        r#"<path d="{spread}" fill="{ANSWERED}" fill-opacity=".3"/>
<path d="{median}" stroke="{ANSWERED}" stroke-width="2" fill="none"/>
<path d="M{left:.1} {patience:.1}h{:.1}" stroke="{WASTED}" stroke-width="1.5"/>
<text x="{:.1}" y="{:.1}" text-anchor="end" font-size="12">the client’s limit</text>"#,
        scales.panel,
        left + scales.panel - 4.0,
        patience - 5.0,
    )?;
    Ok(())
}

/// The horizontal axes of a panel.
fn seconds(svg: &mut String, left: f64, scales: &Scales) -> Result<()> {
    for bottom in [RATES.end, LATENCIES.end] {
        writeln!(svg, r#"<path d="M{left:.1} {bottom}h{:.1}" stroke="{INK}"/>"#, scales.panel)?;
    }
    let step = if scales.end > 8.0 { 5 } else { 1 };
    for second in (0..=scales.end as u32).step_by(step) {
        let unit = if second == 0 { " s" } else { "" };
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{}" text-anchor="middle" font-size="12">{second}{unit}</text>"#,
            scales.x(left, f64::from(second)),
            LATENCIES.end + 18.0
        )?;
    }
    Ok(())
}

/// The vertical axes, at the left, with lines over all panels.
fn axes(svg: &mut String, scales: &Scales) -> Result<()> {
    let mut tick = |y: f64, text: String| {
        writeln!(
            svg,
            r#"<path d="M{LEFT} {y:.1}H{}" stroke="{INK}" stroke-opacity=".2"/>
<text x="{}" y="{:.1}" text-anchor="end" font-size="12">{text}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        )
    };
    let step = 10_f64.powf((scales.most / 2.0).log10().floor());
    let step = if scales.most / step > 5.0 { 2.0 * step } else { step };
    let mut rate = 0.0;
    while rate < scales.most {
        tick(scales.rate(rate), format!("{rate:.0}"))?;
        rate += step;
    }
    for (milliseconds, text) in [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s")]
    {
        tick(Scales::latency(milliseconds), text.to_owned())?;
    }
    writeln!(
        svg,
        r#"<text x="{LEFT}" y="{}" font-size="12">orders a second ↑</text>
<text x="{LEFT}" y="{}" font-size="12">latency of the answered: median, and 10 % to 90 %</text>
<text x="{}" y="{}" font-size="12" text-anchor="end">seconds</text>"#,
        RATES.end + 16.0,
        LATENCIES.start - 6.0,
        WIDTH - RIGHT,
        LATENCIES.end + 36.0,
    )?;
    Ok(())
}
