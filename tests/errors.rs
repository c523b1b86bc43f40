//! Errors as users of the crate handle them: lists of reasons, and refusals made for a test.

use std::{collections::HashSet, error::Error, time::Duration};

use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_load_leveling::{
    LoadLevelLayer, Priority, Stats,
    error::{Reason, Rejected},
};

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
    let stats = LoadLevelLayer::new(1, 1).handle().stats();
    assert_eq!(read(&stats), stats.refused.total());
}

#[test]
fn a_refusal_made_by_hand_says_what_was_set() {
    let bare = Rejected::new(Reason::Closed);
    assert_eq!((bare.reason(), bare.retry_after(), bare.waited()), (Reason::Closed, None, ZERO));
    assert_eq!((bare.queued(), bare.limit(), bare.is_over_share()), (0, 0, false));
    assert_eq!(bare.to_string(), "request rejected: the leveler is closed (0 queued, limit 0)");

    let rejected = Rejected::new(Reason::Evicted)
        .with_waited(Duration::from_millis(30))
        .with_queued(7)
        .with_limit(4)
        .with_over_share(true);
    assert_eq!((rejected.reason(), rejected.queued(), rejected.limit()), (Reason::Evicted, 7, 4));
    assert_eq!((rejected.waited(), rejected.is_over_share()), (Duration::from_millis(30), true));
    let text = "request rejected: evicted in favour of another request \
                (7 queued, limit 4, waited 30ms)";
    assert_eq!(rejected.to_string(), text);
    assert!(rejected.source().is_none());
}

/// A test compares with what it has set, so nothing is spread, rounded or capped.
#[test]
fn a_time_to_retry_made_by_hand_comes_back_as_it_was_set() {
    let times = [ZERO, Duration::from_nanos(1), Duration::new(86_400, 999_999_999)];
    for after in times {
        let rejected = Rejected::new(Reason::Full).with_retry_after(after);
        assert_eq!(rejected.retry_after(), Some(after));
        assert_eq!(rejected.clone().retry_after(), Some(after));
    }
}

/// A test double of a leveler further in: the leveler under test cannot tell it from a real one.
#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_stands_in_for_a_leveler() {
    for reason in Reason::ALL {
        let busy =
            service_fn(
                move |_: u32| async move { Err::<(), BoxError>(Rejected::new(*reason).into()) },
            );
        let layer = LoadLevelLayer::new(1, 1);
        let error = layer.layer(busy).oneshot(1).await.expect_err("refused");
        let rejected = error.downcast_ref::<Rejected>().expect("passed on as it is");
        assert_eq!(rejected.reason(), *reason);
        let is_load = !matches!(reason, Reason::Closed | Reason::NoRuntime | Reason::Nested);
        assert_eq!(layer.handle().stats().overloaded, u64::from(is_load), "{reason}");
    }
}

const ZERO: Duration = Duration::ZERO;
