use std::time::Duration;

/// The target of [controlled delay](crate::Builder::controlled_delay).
///
/// In a file `"auto"`, or a duration such as `"5ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DelayTarget {
    /// Half the measured mean service time, and at least 5 ms.
    Auto,
    /// This wait.
    Wait(Duration),
}

#[cfg(feature = "serde")]
mod in_files {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    use crate::settings::{
        delay_target::DelayTarget,
        duration::{self, EXPECTED, parse},
    };

    const AUTO: &str = "auto";

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl serde::Serialize for DelayTarget {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Auto => serializer.serialize_str(AUTO),
                Self::Wait(target) => duration::serialize(target, serializer),
            }
        }
    }

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl<'de> serde::Deserialize<'de> for DelayTarget {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct TargetVisitor;

            impl Visitor<'_> for TargetVisitor {
                type Value = DelayTarget;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "\"{AUTO}\", or {EXPECTED}")
                }

                fn visit_str<E: Error>(self, text: &str) -> Result<DelayTarget, E> {
                    if text == AUTO {
                        return Ok(DelayTarget::Auto);
                    }
                    let unexpected = serde::de::Unexpected::Str(text);
                    let target = parse(text).map(DelayTarget::Wait);
                    target.ok_or_else(|| E::invalid_value(unexpected, &self))
                }
            }

            from.deserialize_str(TargetVisitor)
        }
    }
}
