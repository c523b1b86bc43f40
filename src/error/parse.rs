use std::{error::Error, fmt};

/// The error of a word that names no value of a type, such as `lifoo` for an
/// [`Order`](crate::Order).
///
/// `Display` lists the words: ``unknown order `lifoo`, expected `fifo`, `lifo` or
/// `adaptive_lifo` ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    word: String,
    allowed: &'static [&'static str],
}

impl ParseError {
    pub(crate) fn new(what: &'static str, word: &str, allowed: &'static [&'static str]) -> Self {
        Self { what, word: word.to_owned(), allowed }
    }

    /// Returns the unknown word.
    #[must_use]
    pub fn word(&self) -> &str {
        &self.word
    }

    /// Returns the allowed words.
    #[must_use]
    pub fn allowed(&self) -> &'static [&'static str] {
        self.allowed
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, word, allowed } = self;
        write!(f, "unknown {what} `{word}`, expected ")?;
        for (nth, word) in allowed.iter().enumerate() {
            let before = match nth {
                0 => "",
                _ if nth + 1 == allowed.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}`{word}`")?;
        }
        Ok(())
    }
}

impl Error for ParseError {}
