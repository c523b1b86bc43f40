//! Requests of a cost above 1.

use super::*;

#[test]
fn a_heavy_request_is_charged_for_all_its_slots() {
    let mut rig = Rig::order(Order::Fifo);
    rig.push_many(8, &flow("light"));
    rig.push_many(2, &flow("heavy").cost(4));
    assert_eq!(rig.drain(), [0, 8, 1, 2, 3, 9, 4, 5, 6, 7]);
}

/// Trap T25.
#[test]
fn a_heavy_head_that_does_not_fit_keeps_its_turn_and_lets_higher_priorities_by() {
    for order in [Order::Fifo, Order::Lifo] {
        let mut rig = Rig::order(order);
        let heavy = rig.push(Class::new().cost(8));
        rig.put_back();
        rig.push_many(3, &Class::new());
        let urgent = rig.push(priority(Priority::Critical));
        assert_eq!(rig.pop_many(2), [urgent, heavy], "{order:?}");
    }
}
