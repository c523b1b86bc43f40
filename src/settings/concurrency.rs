use super::adaptive::{Adaptive, AlgorithmName};

/// The limit: how many calls may run in the inner at once, or the algorithm to find the limit.
///
/// In a file a number, the name of an algorithm, or a table with the algorithm and its parameters:
///
/// ```toml
/// concurrency = 64
/// concurrency = "bdp"
/// concurrency = { algorithm = "bdp", min = 4, max = 500 }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Concurrency {
    /// A fixed limit, as of [`Builder::concurrency`](crate::Builder::concurrency).
    Fixed(usize),
    /// A limit found at run time, as of [`Builder::adaptive`](crate::Builder::adaptive).
    Adaptive(Adaptive),
}

impl From<usize> for Concurrency {
    fn from(limit: usize) -> Self {
        Self::Fixed(limit)
    }
}

impl From<Adaptive> for Concurrency {
    fn from(adaptive: Adaptive) -> Self {
        Self::Adaptive(adaptive)
    }
}

impl From<AlgorithmName> for Concurrency {
    fn from(algorithm: AlgorithmName) -> Self {
        Self::Adaptive(Adaptive::new(algorithm))
    }
}

#[cfg(feature = "serde")]
mod in_files {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
    };

    use crate::settings::{
        adaptive::{Adaptive, AlgorithmName},
        concurrency::Concurrency,
    };

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl Serialize for Concurrency {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Fixed(limit) => limit.serialize(serializer),
                Self::Adaptive(adaptive) if *adaptive == Adaptive::new(adaptive.algorithm) => {
                    adaptive.algorithm.serialize(serializer)
                }
                Self::Adaptive(adaptive) => adaptive.serialize(serializer),
            }
        }
    }

    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    impl<'de> Deserialize<'de> for Concurrency {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_any(ConcurrencyVisitor)
        }
    }

    /// Not derived as an untagged enum: its error would not name the wrong key.
    struct ConcurrencyVisitor;

    impl<'de> Visitor<'de> for ConcurrencyVisitor {
        type Value = Concurrency;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a limit from 1, the name of an algorithm, or a table with `algorithm`")
        }

        fn visit_u64<E: Error>(self, limit: u64) -> Result<Concurrency, E> {
            // `build` names the highest limit.
            Ok(Concurrency::Fixed(usize::try_from(limit).unwrap_or(usize::MAX)))
        }

        fn visit_i64<E: Error>(self, limit: i64) -> Result<Concurrency, E> {
            match u64::try_from(limit) {
                Ok(limit) => self.visit_u64(limit),
                Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(limit), &self)),
            }
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Concurrency, E> {
            name.parse::<AlgorithmName>().map(Concurrency::from).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Concurrency, A::Error> {
            Adaptive::deserialize(MapAccessDeserializer::new(map)).map(Concurrency::from)
        }
    }
}
