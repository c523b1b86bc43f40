//! The code of `docs/watching/opentelemetry.md`, compiled and run.

mod recipe;

pub use recipe::observe;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/watching/opentelemetry.md")]
mod docs {}
