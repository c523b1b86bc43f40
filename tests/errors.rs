//! Errors as users of the crate handle them: lists of reasons, and refusals made for a test.

use std::collections::HashSet;

use tower_load_leveling::{Priority, Stats, error::Reason};

#[test]
fn every_reason_is_listed_once_with_a_name_and_a_text_of_its_own() {
    let all: &'static [Reason] = Reason::ALL;
    let reasons: HashSet<_> = all.iter().collect();
    let names: HashSet<_> = all.iter().map(Reason::as_str).collect();
    let texts: HashSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((reasons.len(), names.len(), texts.len()), (all.len(), all.len(), all.len()));
    for name in names {
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    }
}

/// Counts of every priority and reason, as metrics read them.
#[test]
fn stats_can_be_read_by_a_loop_over_priorities_and_reasons() {
    fn read(stats: &Stats) -> u64 {
        let all: &'static [Priority] = Priority::ALL;
        let counts = all.iter().map(|priority| stats.priority(*priority).refused);
        counts.flat_map(|counts| Reason::ALL.iter().map(move |reason| counts.get(*reason))).sum()
    }
    let stats = tower_load_leveling::LoadLevelLayer::new(1, 1).handle().stats();
    assert_eq!(read(&stats), stats.refused.total());
}
