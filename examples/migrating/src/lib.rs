//! The snippets of `docs/migrating.md`, as doc tests: `cargo test --doc -p migrating`.

#[cfg(doctest)]
#[doc = include_str!("../../../docs/migrating.md")]
mod pairs {}
