use super::*;
use crate::leveler::admission::word::FIELD;
use crate::leveler::link::backlog::CHANNEL;

fn slots(taken: usize, in_flight: usize) -> Taken {
    Taken::Slots(Slots::new(taken, in_flight))
}

#[test]
fn a_heavy_request_takes_as_many_places_and_slots_as_it_costs() {
    let places = Places::new(3, 4.0);
    let admit = |cost| places.take(cost, true, 0);
    assert_eq!(admit(3), Ok(slots(3, 3)));
    assert_eq!(admit(2), Ok(Taken::Places), "one slot is not enough");
    assert_eq!(admit(3), Err(Denied::Full), "two places are not");
    assert!(!places.may_dispatch(2));
    places.release_running(3);
    assert_eq!(places.take_slots(2, 2), Some(Slots { taken: 2, in_flight: 2 }));
}

#[test]
fn a_limit_lowered_below_a_cost_does_not_hold_it_up() {
    let places = Places::new(4, 4.0);
    assert_eq!(places.take(3, false, 0), Ok(Taken::Places));
    places.set_limit(2.0);
    assert_eq!(places.take_slots(3, 3), Some(Slots { taken: 2, in_flight: 2 }));
    assert_eq!(places.counts().waiting(), 0);
    assert_eq!(places.release_running(2).held(), 0);
}

#[test]
fn the_largest_counts_fit() {
    let places = Places::new(MAX, MAX as f64);
    assert!(((MAX * 2 + CHANNEL) as u64) < FIELD);
    assert_eq!(places.total(), 2 * MAX);
}

#[test]
fn a_direct_admission_needs_an_empty_queue_and_a_free_slot() {
    let places = Places::new(2, 1.0);
    let admit = || places.take(1, true, 0);
    assert_eq!(admit(), Ok(slots(1, 1)));
    assert_eq!(admit(), Ok(Taken::Places));
    places.release_running(1);
    assert_eq!(admit(), Ok(Taken::Places), "one waits, so the newcomer must not overtake it");
    assert_eq!(admit(), Ok(Taken::Places));
    assert_eq!(admit(), Err(Denied::Full));
}

#[test]
fn nobody_overtakes_a_request_that_is_being_dispatched() {
    let places = Places::new(4, 4.0);
    assert_eq!(places.take(1, false, 0), Ok(Taken::Places));
    assert_eq!(places.take_slots(1, 1), Some(Slots { taken: 1, in_flight: 1 }));
    assert_eq!(places.take(1, true, 0), Ok(Taken::Places));
    places.release_waiting(1);
    places.end_dispatching();
    assert_eq!(places.take(1, true, 0), Ok(slots(1, 2)));
}

#[test]
fn eviction_passes_the_bound_by_one_channel_at_most() {
    let places = Places::new(1, 1.0);
    let admit = || places.take(1, true, CHANNEL);
    let admitted = std::iter::from_fn(|| admit().ok()).count();
    assert_eq!(admitted, 2 + CHANNEL);
}

#[test]
fn with_nobody_waiting_there_is_nobody_to_evict() {
    let places = Places::new(0, 1.0);
    assert_eq!(places.take(1, true, CHANNEL), Ok(slots(1, 1)));
    assert_eq!(places.take(1, true, CHANNEL), Err(Denied::Full));
}

#[test]
fn a_closed_leveler_cannot_be_paused() {
    let places = Places::new(1, 1.0);
    assert!(places.close());
    assert!(!places.pause());
    assert!(!places.close(), "only the first call closes");
}

#[test]
fn any_float_is_a_possible_limit() {
    for (limit, slots) in [(0.4, 1), (7.9, 7), (-3.0, 1), (f64::NAN, 1), (f64::INFINITY, MAX)] {
        assert_eq!(whole_limit(limit), slots, "{limit}");
    }
}
