//! The bound by which the request classifier of a builder is set once.

/// Implemented for [`Unclassified`](crate::Unclassified) alone: the request classifier can be set
/// once. A bound, since rustc answers a missing method with the name of a similar one.
#[diagnostic::on_unimplemented(
    message = "the request classifier of this builder cannot be set any more",
    label = "set before, or after `record_wait`",
    note = "several classifiers are joined in a tuple: `.request_classifier((first, second))`",
    note = "`record_wait` comes after the request classifier"
)]
#[allow(unnameable_types, reason = "nobody else is to implement it")]
pub trait Unset {}

impl Unset for crate::Unclassified {}
