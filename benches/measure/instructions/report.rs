//! Counts beside those recorded.

use std::process::ExitCode;

use crate::{
    fail,
    recorded::{self, Recorded},
    valgrind::Count,
};

/// How far a count may be from the recorded one, as a share of it. Some instructions in a call of
/// few are chance, as where the compiler draws a line between functions; a change that matters is
/// more.
const SLACK: f64 = 0.05;

pub(crate) struct Table {
    counts: Vec<Count>,
    recorded: Recorded,
}

enum Verdict {
    AsRecorded,
    More,
    Less,
    NotRecorded,
}

impl Verdict {
    fn new(count: f64, recorded: Option<f64>) -> Self {
        match recorded.map(|recorded| count / recorded) {
            None => Self::NotRecorded,
            Some(ratio) if ratio > 1.0 + SLACK => Self::More,
            Some(ratio) if ratio < 1.0 - SLACK => Self::Less,
            Some(_) => Self::AsRecorded,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::AsRecorded => "",
            Self::More => "  more: find out why, or record it and say why",
            Self::Less => "  less: record it, or the gain can be lost unseen",
            Self::NotRecorded => "  not recorded",
        }
    }
}

impl Table {
    pub(crate) fn new(counts: Vec<Count>, recorded: Recorded) -> Self {
        Self { counts, recorded }
    }

    pub(crate) fn print(&self) -> ExitCode {
        println!(
            "{:<44}{:>10}{:>10}{:>8}",
            "instructions per call", "counted", "recorded", "ratio"
        );
        for (name, count) in &self.counts {
            let recorded = self.recorded.of(name);
            let cell = |value: Option<f64>, digits| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let ratio = cell(recorded.map(|recorded| count / recorded), 3);
            let verdict = Verdict::new(*count, recorded).text();
            println!("{name:<44}{count:>10.1}{:>10}{ratio:>8}{verdict}", cell(recorded, 1));
        }
        ExitCode::SUCCESS
    }

    /// Fails when one is not as recorded, on either side.
    pub(crate) fn check(&self) -> ExitCode {
        self.print();
        let (now, then) = (recorded::with(), &self.recorded.with);
        if then.is_empty() {
            return fail("nothing is recorded");
        }
        if now != *then {
            println!("not checked: this is {now}, and what is recorded is of {then:?}");
            return ExitCode::SUCCESS;
        }
        let is_off = |(name, count): &&Count| {
            !matches!(Verdict::new(*count, self.recorded.of(name)), Verdict::AsRecorded)
        };
        match self.counts.iter().filter(is_off).count() {
            0 => ExitCode::SUCCESS,
            off => fail(&format!(
                "{off} of {} are more than {:.0} % from what is recorded",
                self.counts.len(),
                SLACK * 100.0
            )),
        }
    }

    pub(crate) fn record(&self) -> ExitCode {
        self.print();
        match recorded::write(&self.counts) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("not recorded: {error}")),
        }
    }
}
