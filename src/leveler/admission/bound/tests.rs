use super::*;
use crate::leveler::admission::word::FIELD;
use crate::leveler::link::backlog::MAX_OVERRUN;

fn slots(taken: usize, in_flight: usize) -> Taken {
    Taken::Slots(Slots::new(taken, in_flight))
}

#[test]
fn a_heavy_request_takes_as_many_places_and_slots_as_it_costs() {
    let bound = Bound::new(3, 4.0);
    let admit = |cost| bound.take(cost, true, 0);
    assert_eq!(admit(3), Ok(slots(3, 3)));
    assert_eq!(admit(2), Ok(Taken::Places), "one slot is not enough");
    assert_eq!(admit(3), Err(Denied::Full), "two places are not");
    assert!(!bound.may_dispatch(2));
    bound.release_running(3);
    assert_eq!(bound.take_slots(2, 2), Some(Slots::new(2, 2)));
}

#[test]
fn a_limit_lowered_below_a_cost_does_not_hold_it_up() {
    let bound = Bound::new(4, 4.0);
    assert_eq!(bound.take(3, false, 0), Ok(Taken::Places));
    bound.set_limit(2.0);
    assert_eq!(bound.take_slots(3, 3), Some(Slots::new(2, 2)));
    assert_eq!(bound.counts().waiting(), 0);
    assert_eq!(bound.release_running(2).held(), 0);
}

#[test]
fn the_largest_counts_fit() {
    let bound = Bound::new(MAX_COUNT, MAX_COUNT as f64);
    assert!(((MAX_COUNT * 2 + MAX_OVERRUN) as u64) < FIELD);
    assert_eq!(bound.total(), 2 * MAX_COUNT);
}

#[test]
fn a_direct_admission_needs_an_empty_queue_and_a_free_slot() {
    let bound = Bound::new(2, 1.0);
    let admit = || bound.take(1, true, 0);
    assert_eq!(admit(), Ok(slots(1, 1)));
    assert_eq!(admit(), Ok(Taken::Places));
    bound.release_running(1);
    assert_eq!(admit(), Ok(Taken::Places), "one waits, so the newcomer must not overtake it");
    assert_eq!(admit(), Ok(Taken::Places));
    assert_eq!(admit(), Err(Denied::Full));
}

#[test]
fn nobody_overtakes_a_request_that_is_being_dispatched() {
    let bound = Bound::new(4, 4.0);
    assert_eq!(bound.take(1, false, 0), Ok(Taken::Places));
    assert_eq!(bound.take_slots(1, 1), Some(Slots::new(1, 1)));
    assert_eq!(bound.take(1, true, 0), Ok(Taken::Places));
    bound.release_waiting(1);
    bound.end_dispatching();
    assert_eq!(bound.take(1, true, 0), Ok(slots(1, 2)));
}

#[test]
fn eviction_passes_the_bound_by_so_much_at_most() {
    let bound = Bound::new(1, 1.0);
    let admit = || bound.take(1, true, MAX_OVERRUN);
    let admitted = std::iter::from_fn(|| admit().ok()).count();
    assert_eq!(admitted, 2 + MAX_OVERRUN);
}

#[test]
fn with_nobody_waiting_there_is_nobody_to_evict() {
    let bound = Bound::new(0, 1.0);
    assert_eq!(bound.take(1, true, MAX_OVERRUN), Ok(slots(1, 1)));
    assert_eq!(bound.take(1, true, MAX_OVERRUN), Err(Denied::Full));
}

#[test]
fn a_closed_leveler_cannot_be_paused() {
    let bound = Bound::new(1, 1.0);
    assert!(bound.close());
    assert!(!bound.pause());
    assert!(!bound.close(), "only the first call closes");
}

#[test]
fn any_float_is_a_possible_limit() {
    for (limit, slots) in [(0.4, 1), (7.9, 7), (-3.0, 1), (f64::NAN, 1), (f64::INFINITY, MAX_COUNT)]
    {
        assert_eq!(whole_limit(limit), slots, "{limit}");
    }
}
