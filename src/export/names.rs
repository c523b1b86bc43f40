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
        let mut nth = self.last.get(wanted).map_or(1, |last| last + 1);
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
        let began = std::time::Instant::now();
        let last = (5..=10_000).map(|_| names.give(&handle)).last();
        assert_eq!(last.as_deref(), Some("a#10000"));
        // All numbers of all: fifty million names, and half a minute.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
}
