use std::fmt;

/// The settings in which an existing stream or consumer differs from what the
/// [`queue::Builder`](crate::queue::Builder) was told. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    differences: Vec<String>,
}

impl Mismatch {
    /// Returns one line for each setting: its name, the value found, and the value wanted.
    #[must_use]
    pub fn differences(&self) -> &[String] {
        &self.differences
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.differences.join("; "))
    }
}

impl std::error::Error for Mismatch {}

/// Collects differences.
#[derive(Default)]
pub(crate) struct Comparison {
    differences: Vec<String>,
}

impl Comparison {
    pub(crate) fn of<T: PartialEq + fmt::Debug>(&mut self, name: &str, found: T, wanted: T) {
        if found != wanted {
            self.differences.push(format!("{name} is {found:?}, wanted {wanted:?}"));
        }
    }

    pub(crate) fn differs(&self) -> bool {
        !self.differences.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), Mismatch> {
        match self.differences.is_empty() {
            true => Ok(()),
            false => Err(Mismatch { differences: self.differences }),
        }
    }
}
