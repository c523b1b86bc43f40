//! Two levelers with one name: the metrics tell them apart, and an operator is told once.
//!
//! Alone in this file, since the warning comes once in a process.
#![cfg(feature = "prometheus")]

mod support;

use support::{builder, captured::Captured};
use tower_load_leveling::prometheus::render;
use tracing::Level;

#[test]
fn a_clash_of_names_is_told_once() {
    let (_t, captured) = Captured::init();
    let handle = |name: &str| builder(1, 1).name(name).build().expect("valid").handle();
    let handles = ["orders", "mail", "orders", "mail"].map(handle);
    for _ in 0..3 {
        let text = render(&handles);
        assert!(text.contains(r#"leveler="orders#2""#) && text.contains(r#"leveler="mail#2""#));
    }
    let told = captured.events("several levelers have one name");
    assert_eq!(told.len(), 1, "{told:?}");
    let (level, fields) = &told[0];
    let [name, given] = ["name", "given"].map(|field| fields[field].as_str());
    assert_eq!((*level, name, given), (Level::WARN, "orders", "orders#2"));
}
