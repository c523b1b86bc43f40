//! The words of choices: printed, read, and named in errors.

use std::str::FromStr;

use super::*;

fn words<T>(all: &[T], word: impl Fn(&T) -> &'static str, is_shown: bool)
where
    T: Copy + PartialEq + std::fmt::Debug + std::fmt::Display + FromStr<Err = ParseError>,
{
    for value in all {
        assert_eq!(word(value).parse(), Ok(*value));
        assert_eq!(is_shown, value.to_string() == word(value), "{value}");
    }
    let error = "nonsense".parse::<T>().expect_err("nonsense");
    assert_eq!(error.word(), "nonsense");
    let listed: Vec<_> = all.iter().map(word).collect();
    assert_eq!(error.allowed(), listed);
    let text = error.to_string();
    assert!(listed.iter().all(|word| text.contains(&format!("`{word}`"))), "{text}");
}

pub(super) const HOWS: [AlgorithmName; 6] = [
    AlgorithmName::Bdp,
    AlgorithmName::LatencyTarget,
    AlgorithmName::Aimd,
    AlgorithmName::Gradient,
    AlgorithmName::Vegas,
    AlgorithmName::Custom,
];

#[test]
fn every_choice_has_a_word_that_is_printed_and_read() {
    words(&[Order::Fifo, Order::Lifo, Order::AdaptiveLifo], Order::as_str, true);
    let overflows = [Overflow::Reject, Overflow::Wait, Overflow::EvictOldest];
    words(&overflows, Overflow::as_str, true);
    words(&[Abandon::Cancel, Abandon::Finish], Abandon::as_str, true);
    words(&[Execution::Spawn, Execution::Caller], Execution::as_str, true);
    words(Priority::ALL, Priority::as_str, true);
    let outcomes = [Outcome::Success, Outcome::Overload, Outcome::Ignore, Outcome::Cancelled];
    words(&outcomes, Outcome::as_str, true);
    words(&HOWS, AlgorithmName::as_str, true);
    // A reason prints a sentence, for responses.
    words(Reason::ALL, Reason::as_str, false);
    assert_eq!(
        "lifoo".parse::<Order>().expect_err("a slip").to_string(),
        "unknown order `lifoo`, expected `fifo`, `lifo` or `adaptive_lifo`"
    );
    assert_eq!(format!("{:>6}|", Order::Lifo), "  lifo|");
}

#[cfg(feature = "http")]
#[test]
fn the_choice_of_what_is_held_has_words_too() {
    use tower_load_leveling::http::Hold;

    words(&[Hold::Response, Hold::BodyEnd], Hold::as_str, true);
}
