use std::{any::Any, time::Duration};

use crate::{
    error::BuildError,
    limit::{Aimd, Algorithm, Bdp, Bounds, Gradient, LOWEST_MIN, LatencyTarget, Vegas},
    words::{display_words, words},
};

/// The algorithm of an adaptive limit, and its parameters. `None` is the default of the algorithm.
///
/// In a file a table, or the name alone: `concurrency = "bdp"`. A parameter of another algorithm is
/// a [`BuildError`] with the parameter's name.
///
/// ```
/// use tower_load_leveling::{LoadLevelLayer, settings::{Adaptive, AlgorithmName, Settings}};
///
/// let mut bdp = Adaptive::new(AlgorithmName::Bdp);
/// bdp.max = Some(500);
/// let mut settings = Settings::default();
/// settings.concurrency = Some(bdp.into());
/// let layer = LoadLevelLayer::builder().settings(settings).build()?;
/// assert!(layer.handle().is_adaptive());
/// # Ok::<(), tower_load_leveling::error::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Adaptive {
    /// The algorithm.
    pub algorithm: AlgorithmName,
    /// The lowest limit, in calls at once: a whole number from 1, or for `latency_target` any
    /// number from 0.01.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub min: Option<f64>,
    /// The highest limit, in calls at once, from 1.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub max: Option<usize>,
    /// The limit to start with, in calls at once, from 1.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub initial: Option<usize>,
    /// The target for the mean service time. `latency_target` needs a target; other algorithms have
    /// none.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "super::duration::option", skip_serializing_if = "Option::is_none")
    )]
    pub target: Option<Duration>,
    /// The service time that counts as an overload, for `aimd`.
    #[cfg_attr(
        feature = "serde",
        serde(default, with = "super::duration::option", skip_serializing_if = "Option::is_none")
    )]
    pub timeout: Option<Duration>,
    /// The seed of the random numbers of `vegas`.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub seed: Option<u64>,
}

/// The name of an algorithm for the limit: one of [`limit`](crate::limit), or `custom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlgorithmName {
    /// [`limit::Bdp`](Bdp), which [`adaptive_concurrency`](crate::Builder::adaptive_concurrency)
    /// sets.
    Bdp,
    /// [`limit::LatencyTarget`](LatencyTarget).
    LatencyTarget,
    /// [`limit::Aimd`](Aimd).
    Aimd,
    /// [`limit::Gradient`](Gradient).
    Gradient,
    /// [`limit::Vegas`](Vegas).
    Vegas,
    /// An algorithm of another crate. A handle returns `custom`, but no layer can be built from it.
    Custom,
}

words!(AlgorithmName, "algorithm", {
    Bdp = "bdp",
    LatencyTarget = "latency_target",
    Aimd = "aimd",
    Gradient = "gradient",
    Vegas = "vegas",
    Custom = "custom",
});
display_words!(AlgorithmName);

impl Adaptive {
    /// Returns the algorithm with its default parameters.
    #[must_use]
    pub fn new(algorithm: AlgorithmName) -> Self {
        let (min, max, initial) = (None, None, None);
        Self { algorithm, min, max, initial, target: None, timeout: None, seed: None }
    }

    /// Returns the parameters of an algorithm as given to the builder.
    fn of(algorithm: &dyn Any) -> Self {
        if let Some(bdp) = algorithm.downcast_ref::<Bdp>() {
            let new = Self::new(AlgorithmName::Bdp).within(bdp.bounds());
            // By default without a maximum.
            return Self { max: new.max.filter(|max| *max < u32::MAX as usize), ..new };
        }
        if let Some(LatencyTarget { bounds, target, .. }) = algorithm.downcast_ref() {
            let new = Self::new(AlgorithmName::LatencyTarget).within(*bounds);
            return Self { target: Some(*target), ..new };
        }
        if let Some(Aimd { bounds, timeout, .. }) = algorithm.downcast_ref() {
            let new = Self::new(AlgorithmName::Aimd).within(*bounds);
            return Self { timeout: Some(*timeout), ..new };
        }
        if let Some(Gradient { bounds, .. }) = algorithm.downcast_ref() {
            return Self::new(AlgorithmName::Gradient).within(*bounds);
        }
        if let Some(Vegas { bounds, seed, .. }) = algorithm.downcast_ref() {
            let new = Self::new(AlgorithmName::Vegas).within(*bounds);
            return Self { seed: Some(*seed), ..new };
        }
        Self::new(AlgorithmName::Custom)
    }

    /// Sets the bounds as the algorithm understands them: a minimum above the maximum prevails.
    fn within(self, bounds: Bounds) -> Self {
        let max = bounds.max.max(bounds.min).ceil() as usize;
        let initial = bounds.initial as usize;
        Self { min: Some(bounds.min), max: Some(max), initial: Some(initial), ..self }
    }

    /// Makes the algorithm, and writes out its parameters in full.
    pub(crate) fn build(&self) -> Result<(Self, Box<dyn Algorithm>), BuildError> {
        use AlgorithmName as Name;

        self.check_owner("concurrency.target", self.target.is_some(), Name::LatencyTarget)?;
        self.check_owner("concurrency.timeout", self.timeout.is_some(), Name::Aimd)?;
        self.check_owner("concurrency.seed", self.seed.is_some(), Name::Vegas)?;
        Ok(match self.algorithm {
            Name::Bdp => Self::described(Bdp::within(self.bounds(Bdp::new().bounds())?)),
            Name::LatencyTarget => {
                let target = self.target.unwrap_or_default();
                if target.is_zero() {
                    let value = if self.target.is_some() { "0ns" } else { "not set" };
                    let allowed = "a mean service time to aim at, above zero";
                    return Err(BuildError::new("concurrency.target", value, allowed));
                }
                let new = LatencyTarget::new(target);
                let bounds = self.bounds(new.bounds)?;
                Self::described(new.within(bounds))
            }
            Name::Aimd => {
                let new = Aimd::new();
                let timeout = self.timeout.unwrap_or(new.timeout);
                let bounds = self.bounds(new.bounds)?;
                Self::described(new.timeout(timeout).within(bounds))
            }
            Name::Gradient => {
                let new = Gradient::new();
                let bounds = self.bounds(new.bounds)?;
                Self::described(new.within(bounds))
            }
            Name::Vegas => {
                let new = Vegas::new().seed(self.seed.unwrap_or_default());
                let bounds = self.bounds(new.bounds)?;
                Self::described(new.within(bounds))
            }
            Name::Custom => {
                let allowed = "a number, or an algorithm of this crate (set your own with \
                               `Builder::adaptive`, after `Builder::settings`)";
                return Err(BuildError::new("concurrency", Name::Custom, allowed));
            }
        })
    }

    /// Returns the algorithm with its parameters.
    pub(crate) fn described(algorithm: impl Algorithm) -> (Self, Box<dyn Algorithm>) {
        (Self::of(&algorithm), Box::new(algorithm))
    }

    fn check_owner(
        &self,
        parameter: &'static str,
        is_set: bool,
        owner: AlgorithmName,
    ) -> Result<(), BuildError> {
        if !is_set || self.algorithm == owner {
            return Ok(());
        }
        let allowed = format!("no such parameter for `{}`, only for `{owner}`", self.algorithm);
        Err(BuildError::new(parameter, "set", allowed))
    }

    /// Returns the bounds: as set, else `default`.
    fn bounds(&self, default: Bounds) -> Result<Bounds, BuildError> {
        let is_fractional = self.algorithm == AlgorithmName::LatencyTarget;
        let min = self.min.unwrap_or(default.min);
        let (is_possible, possible) = match is_fractional {
            true => (min >= LOWEST_MIN && min.is_finite(), "a number from 0.01"),
            false => (min >= 1.0 && min.fract() == 0.0, "a whole number from 1"),
        };
        if !is_possible {
            return Err(BuildError::new("concurrency.min", min, possible));
        }
        let least = |setting, value: Option<usize>, default| match value {
            Some(0) => Err(BuildError::new(setting, 0, "1 or more")),
            Some(value) => Ok(value as f64),
            None => Ok(default),
        };
        let max = least("concurrency.max", self.max, default.max)?;
        let initial = least("concurrency.initial", self.initial, default.initial)?;
        if min > max {
            let allowed = format!("at most the highest limit, `concurrency.max`, here {max}");
            return Err(BuildError::new("concurrency.min", min, allowed));
        }
        Ok(Bounds { min, max, initial })
    }
}
