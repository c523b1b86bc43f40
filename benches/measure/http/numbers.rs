//! What is said of many measurements.

/// The value that this part of all is not above.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * part) as usize).min(values.len() - 1)]
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Of pairs measured in the same round.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    pub median: f64,
    /// Half of all are in between.
    pub quartiles: [f64; 2],
    /// The standard error of the median, were they normally distributed.
    pub error: f64,
}

impl Ratio {
    pub fn of(values: &[f64], others: &[f64]) -> Self {
        let ratios: Vec<f64> =
            values.iter().zip(others).map(|(value, other)| value / other).collect();
        let quartiles = [quantile(&ratios, 0.25), quantile(&ratios, 0.75)];
        // 1.349 standard deviations are between the quartiles. The median's error is 1.253 times
        // the mean's.
        let deviation = (quartiles[1] - quartiles[0]) / 1.349;
        let error = 1.253 * deviation / (ratios.len() as f64).sqrt();
        Self { median: median(&ratios), quartiles, error }
    }

    /// As wide as [`Self::TITLE`].
    pub fn print(&self) -> String {
        let Self { median, quartiles: [low, high], error } = self;
        format!("{median:>8.3} ±{error:<6.3} {low:>6.3} to {high:<6.3}")
    }

    pub const TITLE: &str = "  median ±error    quartiles    ";
}
