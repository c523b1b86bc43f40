//! The names of the crate's headers, and what fits into one.

use async_nats::HeaderMap;

/// The broker's key for duplicates.
pub(crate) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// On a copy: the first id of the message.
pub(crate) const ID: &str = "Load-Level-Id";
/// The attempts before the copy was stored.
pub(crate) const ATTEMPTS: &str = "Load-Level-Attempts";
/// On a copy: milliseconds since 1970 before which no worker calls the inner.
pub(crate) const NOT_BEFORE: &str = "Load-Level-Not-Before";
/// On a dead letter: the cause of the burial.
pub(crate) const CAUSE: &str = "Load-Level-Cause";
/// On a dead letter: the last attempt. On an answer: the answered attempt.
pub(crate) const ATTEMPT: &str = "Load-Level-Attempt";
/// On a dead letter: `<stream>:<sequence>:<subject>`.
pub(crate) const ORIGIN: &str = "Load-Level-Origin";
/// On a message of an asker: the subject for the answer.
pub(crate) const ANSWER_TO: &str = "Load-Level-Answer-To";
/// On a message of an asker: the deadline, in milliseconds since 1970.
pub(crate) const ANSWER_UNTIL: &str = "Load-Level-Answer-Until";
/// On an answer: `done`, `unsent`, `failed` or `late`.
pub(crate) const ANSWER: &str = "Load-Level-Answer";
/// On an answer: the place of the message in the stream.
pub(crate) const SEQUENCE: &str = "Load-Level-Sequence";

/// Inserts a header. Line breaks become spaces.
pub(crate) fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    headers.insert(name, value.as_str());
}

/// The first 1000 bytes of a text, or some fewer.
pub(crate) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(1000);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
