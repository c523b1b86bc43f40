//! The names of the headers that this crate reads and writes.

/// The id by which the broker tells duplicates.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The id that the message had first, on a copy.
pub(crate) const ID: &str = "Load-Level-Id";
/// The attempts before this copy was stored.
pub(crate) const ATTEMPTS: &str = "Load-Level-Attempts";
/// On a copy: milliseconds since 1970 before which no worker calls its inner.
pub(crate) const NOT_BEFORE: &str = "Load-Level-Not-Before";
/// On a dead letter: why it was buried.
pub(crate) const CAUSE: &str = "Load-Level-Cause";
/// On a dead letter: the attempt that was the last. On an answer: the attempt that it is of.
pub(crate) const ATTEMPT: &str = "Load-Level-Attempt";
/// On a dead letter: `<stream>:<sequence>:<subject>`.
pub(crate) const ORIGIN: &str = "Load-Level-Origin";
/// On a message of an asker: the subject that the answer is wanted on.
pub(crate) const ANSWER_TO: &str = "Load-Level-Answer-To";
/// On a message of an asker: milliseconds since 1970 until which the answer is wanted.
pub(crate) const ANSWER_UNTIL: &str = "Load-Level-Answer-Until";
/// On an answer: `done`, `unsent`, `failed` or `late`.
pub(crate) const ANSWER: &str = "Load-Level-Answer";
/// On an answer: the place of the message in the stream.
pub(crate) const SEQUENCE: &str = "Load-Level-Sequence";
