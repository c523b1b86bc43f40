use std::collections::{BTreeMap, BTreeSet};

use crate::{
    handle::Handle,
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

/// Gives levelers different names: of several with one name, the second is `name#2`.
#[derive(Debug, Default)]
pub(crate) struct Names {
    given: BTreeSet<String>,
    /// The last number given for a name. Without it, each of very many levelers with one name would
    /// try the numbers of all before it.
    last: BTreeMap<String, u64>,
}

impl Names {
    /// Returns the name of a leveler, or the next free name. Warns of the first clash in the
    /// process.
    pub(crate) fn give(&mut self, handle: &Handle) -> String {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let wanted = handle.name();
        let numbered =
            |nth: u64| if nth == 1 { wanted.to_owned() } else { format!("{wanted}#{nth}") };
        let mut nth = self.first_try(wanted);
        while !self.given.insert(numbered(nth)) {
            nth += 1;
        }
        self.last.insert(wanted.to_owned(), nth);
        let given = numbered(nth);
        if nth > 1 && !WARNED.swap(true, Relaxed) {
            tracing::warn!(name = wanted, %given, "several levelers have one name");
        }
        given
    }

    /// Returns the first number to try for a name: all lower numbers are taken.
    fn first_try(&self, wanted: &str) -> u64 {
        self.last.get(wanted).map_or(1, |last| last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadLevelLayer;

    #[test]
    fn the_numbers_of_ten_thousand_levelers_with_one_name_are_found_in_a_step_each() {
        let named = |name: &str| {
            LoadLevelLayer::builder().name(name).concurrency(1).build().expect("valid").handle()
        };
        let (mut names, handle) = (Names::default(), named("a"));
        assert_eq!(names.give(&named("a#3")), "a#3");
        assert_eq!([names.give(&handle), names.give(&handle)], ["a", "a#2"]);
        assert_eq!(names.give(&handle), "a#4", "the third is taken");
        for nth in 5..=10_000 {
            assert_eq!(names.first_try("a"), nth, "the first number tried is free");
            assert_eq!(names.give(&handle), format!("a#{nth}"));
        }
    }
}
