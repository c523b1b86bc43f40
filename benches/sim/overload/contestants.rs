//! Who runs in the scenarios.

use std::time::Duration;

use tower_load_leveling::limit::{Aimd, Algorithm, Bdp, Fixed, Gradient, LatencyTarget, Vegas};

use crate::{controls::RandomWalk, incumbents};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// The default, or one that starts at this limit.
    Bdp(Option<usize>),
    LatencyTarget,
    Aimd,
    Gradient,
    Vegas,
    /// By its place in [`incumbents::all`].
    Incumbent(usize),
    /// Negative controls: at the limit to start with for ever, at the highest, and anywhere.
    Frozen,
    AlwaysMax,
    RandomWalk,
}

/// The limit that this crate's algorithms start with, and the highest of most incumbents.
const START: usize = 4;
const MAX: usize = 1000;

/// For backends that take 20 ms at rest.
const TARGET: Duration = Duration::from_millis(30);

impl Contestant {
    pub const CONTROLS: [Self; 3] = [Self::Frozen, Self::AlwaysMax, Self::RandomWalk];

    /// All that is compared: this crate's algorithms, and the incumbents.
    pub fn field() -> Vec<Self> {
        let ours = [Self::Bdp(None), Self::LatencyTarget, Self::Aimd, Self::Gradient, Self::Vegas];
        let incumbents = incumbents::all(0, Duration::from_secs(1)).len();
        ours.into_iter().chain((0..incumbents).map(Self::Incumbent)).collect()
    }

    /// Returns the incumbent of this name.
    pub fn incumbent(name: &str) -> Self {
        let all = incumbents::all(0, Duration::from_secs(1));
        let place = all.iter().position(|(known, _)| *known == name);
        Self::Incumbent(place.expect("an incumbent of this name"))
    }

    pub fn name(self) -> String {
        match self {
            Self::Bdp(None) => "Bdp".to_owned(),
            Self::Bdp(Some(initial)) => format!("Bdp from {initial}"),
            Self::LatencyTarget => format!("LatencyTarget {} ms", TARGET.as_millis()),
            Self::Aimd => "Aimd".to_owned(),
            Self::Gradient => "Gradient".to_owned(),
            Self::Vegas => "Vegas".to_owned(),
            Self::Incumbent(place) => {
                incumbents::all(0, Duration::from_secs(1))[place].0.to_owned()
            }
            Self::Frozen => format!("control: frozen at {START}"),
            Self::AlwaysMax => format!("control: always {MAX}"),
            Self::RandomWalk => "control: random walk".to_owned(),
        }
    }

    pub fn is_control(self) -> bool {
        Self::CONTROLS.contains(&self)
    }

    /// Returns a fresh one, for calls that have so much time. What chance decides in it is the same
    /// for the same seed, and has nothing to do with arrivals.
    pub fn algorithm(self, seed: u64, deadline: Duration) -> Box<dyn Algorithm> {
        match self {
            Self::Bdp(None) => Box::new(Bdp::new()),
            Self::Bdp(Some(initial)) => Box::new(Bdp::new().initial(initial)),
            Self::LatencyTarget => Box::new(LatencyTarget::new(TARGET)),
            Self::Aimd => Box::new(Aimd::new()),
            Self::Gradient => Box::new(Gradient::new()),
            Self::Vegas => Box::new(Vegas::new().seed(seed)),
            Self::Incumbent(place) => incumbents::all(seed, deadline).swap_remove(place).1,
            Self::Frozen => Box::new(Fixed::new(START)),
            Self::AlwaysMax => Box::new(Fixed::new(MAX)),
            Self::RandomWalk => Box::new(RandomWalk::new(START, seed)),
        }
    }
}
