use std::{error::Error as StdError, fmt};

use tower::BoxError;

use crate::mismatch::Mismatch;

/// The errors of this crate, beside [`Rejected`](tower_load_leveling::error::Rejected), the error
/// of a [`Producer`](crate::Producer) for a full stream.
///
/// Only [`Unknown`](Self::Unknown) leaves open whether a message was stored. Each other error of a
/// producer promises that nothing was stored. [`Unanswered`](Self::Unanswered),
/// [`Failed`](Self::Failed), [`Late`](Self::Late) and [`Answer`](Self::Answer) come from an
/// [`Asker`](crate::Asker), and say that the message was stored.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The connection to the broker is down, or no broker serves the stream. Nothing was stored.
    Away,
    /// The broker did not answer in time. The message may have been stored, or may be stored
    /// later. Sending the request again under the same id is safe within the
    /// [duplicate window](crate::queue::Builder::duplicate_window).
    #[non_exhaustive]
    Unknown {
        /// The id of the message.
        id: String,
    },
    /// The request could not be encoded, is larger than the broker allows, or has no proper id.
    /// Nothing was stored.
    Encode(BoxError),
    /// The broker refused to store the message, for a reason other than a full
    /// stream.
    NotStored(BoxError),
    /// The request is stored, and no answer came in time. The request may have been done, or may
    /// be done later.
    #[non_exhaustive]
    Unanswered {
        /// The id of the message.
        id: String,
    },
    /// The worker gave the request up: the last attempt failed, or the message was buried.
    #[non_exhaustive]
    Failed {
        /// The id of the message.
        id: String,
        /// Why, in the worker's words.
        cause: String,
    },
    /// The turn of the request came after the deadline. The worker dropped the message
    /// without one more call. Asking again needs a new id: the old id is a duplicate for the rest
    /// of the [duplicate window](crate::queue::Builder::duplicate_window).
    #[non_exhaustive]
    Late {
        /// The id of the message.
        id: String,
    },
    /// The request was done. The answer could not be encoded, sent or decoded.
    #[non_exhaustive]
    Answer {
        /// The id of the message.
        id: String,
        /// Why the answer could not be read.
        source: BoxError,
    },
    /// The stream or the consumer could not be read or created.
    Setup(BoxError),
    /// The stream or the consumer exists with other settings.
    Mismatch(Mismatch),
    /// The connection was closed for good.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("the broker is away; nothing was stored"),
            Self::Unknown { id } => {
                write!(f, "the broker did not answer; message `{id}` may have been stored")
            }
            Self::Encode(_) => f.write_str("the request could not be encoded"),
            Self::NotStored(_) => f.write_str("the broker refused to store the message"),
            Self::Unanswered { id } => {
                write!(f, "message `{id}` is stored; no answer came in time")
            }
            Self::Failed { id, cause } => write!(f, "message `{id}` was given up: {cause}"),
            Self::Late { id } => write!(f, "the turn of message `{id}` came after its deadline"),
            Self::Answer { id, .. } => {
                write!(f, "message `{id}` is done; its answer could not be read")
            }
            Self::Setup(_) => f.write_str("the queue could not be set up"),
            Self::Mismatch(_) => f.write_str("the queue exists with other settings"),
            Self::Closed => f.write_str("the connection to the broker is closed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Encode(error) | Self::NotStored(error) | Self::Setup(error) => Some(&**error),
            Self::Mismatch(mismatch) => Some(mismatch),
            Self::Answer { source, .. } => Some(&**source),
            Self::Away
            | Self::Unknown { .. }
            | Self::Unanswered { .. }
            | Self::Failed { .. }
            | Self::Late { .. }
            | Self::Closed => None,
        }
    }
}
