//! An error and its sources.

use std::error::Error;

/// The number of errors to look at. An error may be its own source, and no real chain is longer.
const MAX_SOURCES: usize = 32;

/// Returns `error` and its sources.
pub(crate) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(MAX_SOURCES)
}
