//! Requests: when they come and how much work they are.

use sim::random::Random;

/// How the work of a request is distributed. It is counted in mean service times, so that the mean
/// is 1 unless said.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Constant,
    Exponential,
    /// A share of small ones, and the two sizes. Their mean is what it is.
    Bimodal {
        small_share: f64,
        small: f64,
        large: f64,
    },
    /// As unequal as that: the squared coefficient of variation. A sum of exponential parts
    /// (Erlang's law) below 1, and one of two exponential laws (with balanced means) above.
    Varied {
        cv2: f64,
    },
    /// Pareto's law, cut at so many times the smallest.
    Pareto {
        alpha: f64,
        ratio: f64,
    },
}

impl Work {
    pub fn draw(self, random: &mut Random) -> f64 {
        let uniform = random.uniform();
        match self {
            Self::Constant => 1.0,
            Self::Exponential => -uniform.ln(),
            Self::Bimodal { small_share, small, large } => {
                if uniform < small_share {
                    small
                } else {
                    large
                }
            }
            Self::Varied { cv2 } if cv2 <= 1.0 => {
                let parts = (1.0 / cv2).round().max(1.0);
                let rest = (1..parts as u32).map(|_| -random.uniform().ln()).sum::<f64>();
                (rest - uniform.ln()) / parts
            }
            Self::Varied { cv2 } => {
                let often = 0.5 * (1.0 + ((cv2 - 1.0) / (cv2 + 1.0)).sqrt());
                let share = if uniform < often { often } else { 1.0 - often };
                -random.uniform().ln() / (2.0 * share)
            }
            Self::Pareto { alpha, ratio } => {
                let raw = (1.0 - uniform * (1.0 - ratio.powf(-alpha))).powf(-1.0 / alpha);
                let mean = alpha / (alpha - 1.0) * (1.0 - ratio.powf(1.0 - alpha))
                    / (1.0 - ratio.powf(-alpha));
                raw / mean
            }
        }
    }

    pub fn mean(self) -> f64 {
        match self {
            Self::Constant | Self::Exponential | Self::Varied { .. } | Self::Pareto { .. } => 1.0,
            Self::Bimodal { small_share, small, large } => {
                small_share * small + (1.0 - small_share) * large
            }
        }
    }
}

/// A value that changes at given moments: `(from, value)`, the first from 0.
#[derive(Clone, Debug)]
pub struct Steps<T>(pub Vec<(f64, T)>);

impl<T: Copy> Steps<T> {
    pub fn always(value: T) -> Self {
        Self(vec![(0.0, value)])
    }

    /// A value that changes all the time, every so often set to what it is in the middle until the
    /// next.
    pub fn sampled(every: f64, until: f64, value: impl Fn(f64) -> T) -> Self {
        let count = (until / every).ceil() as u32;
        let steps = (0..count).map(|step| {
            let from = f64::from(step) * every;
            (from, value(from + every / 2.0))
        });
        Self(steps.collect())
    }

    pub fn at(&self, now: f64) -> T {
        let passed = self.0.partition_point(|(from, _)| *from <= now);
        self.0[passed.saturating_sub(1)].1
    }
}
