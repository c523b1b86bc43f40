//! Durations in files: numbers with units, such as `250ms` and `1m 30s`.

use std::{fmt, time::Duration};

use serde::{
    Deserializer, Serializer,
    de::{Error, Visitor},
};

/// The units, each with its nanoseconds, the largest first. The last two are other names.
const UNITS: [(&str, u128); 9] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("µs", 1_000),
    ("min", 60_000_000_000),
];

/// Writes a duration in the largest unit, from hours down, in which it is a whole number.
fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let is_whole = |(_, unit): &&(&str, u128)| nanos % *unit == 0;
    match UNITS[1..].iter().find(is_whole) {
        Some((name, unit)) if nanos > 0 => format!("{}{name}", nanos / unit),
        _ => format!("{nanos}ns"),
    }
}

/// Reads a duration. `None` if `text` is none: without a unit, with units out of order, with a part
/// of a nanosecond, or above the range of [`Duration`].
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut total: u128 = 0;
    let mut last_unit = u128::MAX;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c))?);
        let after = after.trim_start();
        let end = after.find(|c: char| is_number(c) || c.is_whitespace()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let unit = UNITS.iter().find(|(unit, _)| *unit == name)?.1;
        if unit >= last_unit {
            return None;
        }
        total = total.checked_add(scale(number, unit)?)?;
        last_unit = unit;
        rest = after.trim_start();
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (total % 1_000_000_000) as u32))
}

/// Returns `number` × `unit`, exactly. `None` if the product is not whole.
fn scale(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits: u32 = fraction.len().try_into().ok()?;
    let base = 10_u128.checked_pow(digits)?;
    let parts = whole.parse::<u128>().ok()?.checked_mul(base)?;
    let product = parts.checked_add(fraction.parse().ok()?)?.checked_mul(unit)?;
    (product % base == 0).then_some(product / base)
}

pub(super) const EXPECTED: &str = "a duration such as \"250ms\", \"1.5s\" or \"1m 30s\"";

pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&print(*duration))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_str(DurationVisitor)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        let unexpected = serde::de::Unexpected::Str(text);
        parse(text).ok_or_else(|| E::invalid_value(unexpected, &self))
    }
}

/// For an optional duration. A missing key is `None`.
pub(super) mod option {
    use std::{fmt, time::Duration};

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    use crate::settings::duration::{self, EXPECTED};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        from.deserialize_option(OptionVisitor)
    }

    struct OptionVisitor;

    impl<'de> Visitor<'de> for OptionVisitor {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(EXPECTED)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            duration::deserialize(from).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back_to_the_nanosecond() {
        let nanos = [0, 1, 999, 1_000, 1_500_000, 250_000_000, 90_000_000_000, u64::MAX];
        let some = nanos.map(Duration::from_nanos);
        for duration in some.into_iter().chain([Duration::MAX, Duration::from_secs(u64::MAX)]) {
            let text = print(duration);
            assert_eq!(parse(&text), Some(duration), "{text}");
        }
        assert_eq!(print(Duration::from_millis(250)), "250ms");
        assert_eq!(print(Duration::from_millis(1500)), "1500ms");
        assert_eq!(print(Duration::from_secs(90)), "90s");
        assert_eq!(print(Duration::from_secs(7200)), "2h");
        assert_eq!(print(Duration::ZERO), "0ns");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (text, duration) in [
            ("250ms", ms(250)),
            ("1.5s", ms(1500)),
            ("0.25s", ms(250)),
            (" 1m 30s ", ms(90_000)),
            ("1m30s", ms(90_000)),
            ("1 min 30 s", ms(90_000)),
            ("2h", ms(7_200_000)),
            ("1d 0.5h", ms(88_200_000)),
            ("1500us", Some(Duration::from_micros(1500))),
            ("1500µs", Some(Duration::from_micros(1500))),
            ("0s", Some(Duration::ZERO)),
        ] {
            assert_eq!(parse(text), duration, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "s",
            "-5s",
            "+5s",
            "5 fortnights",
            "5S",
            "1.2.3s",
            ".5s",
            "5.s",
            ".s",
            "30s 1m",
            "1s 1s",
            "0.5ns",
            "1s,",
            "99999999999999999999999999999999999999s",
            "18446744073709551616s",
            "5s 1us 1µs",
            "1 2s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
