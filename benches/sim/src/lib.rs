//! What the simulations here and the measurements in `benches/measure` share: random numbers and
//! pictures.

#![allow(
    clippy::exhaustive_enums,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::should_implement_trait,
    missing_docs,
    reason = "only the programs of this repository use it"
)]

// There, since the tests of the published package use it too.
#[path = "../../../tests/support/scenario/random.rs"]
pub mod random;
pub mod svg;
