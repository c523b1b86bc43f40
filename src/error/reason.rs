use std::fmt;

use crate::words::words;

/// The reason why a request was refused on arrival or removed from the queue.
///
/// `Display` prints a sentence for logs and responses. [`as_str`](Self::as_str) returns a word for
/// fields, and `FromStr` reads the word. Later releases may add reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The queue is full: capacity + limit requests were already admitted.
    Full,
    /// The request's [priority](crate::Priority) is cut off under lasting overload, although a
    /// place may be free. The cutoff moves once a second, and no retry makes sense before.
    CutOff,
    /// As many requests as [`Builder::bypass_limit`](crate::Builder::bypass_limit) allows were
    /// [bypassing](crate::Class::bypass) the queue.
    Bypass,
    /// The request was evicted from a full queue: by a newer request under
    /// [`Overflow::EvictOldest`](crate::Overflow::EvictOldest), by a request of a higher
    /// [priority](crate::Priority), or by a request of a [flow](crate::Class::flow) with less in
    /// the queue.
    Evicted,
    /// The request waited as long as [`Builder::max_wait`](crate::Builder::max_wait) allows.
    MaxWait,
    /// The request's own [deadline](crate::Class::deadline) passed before its dispatch.
    Deadline,
    /// The request's deadline could no longer be met, according to the measured wait and service
    /// time.
    WouldMissDeadline,
    /// [Controlled delay](crate::Builder::controlled_delay) removed the request to keep a standing
    /// queue short.
    Delay,
    /// The leveler was closed, or the drain task died with its runtime.
    Closed,
    /// No Tokio runtime was running to spawn the drain task on.
    NoRuntime,
    /// The inner service made the call on behalf of a call of the same leveler, and the nested call
    /// would have had to wait with no bound. The outer call holds a slot meanwhile: if outer calls
    /// hold all slots, no call ever ends.
    ///
    /// Mostly the call is refused at once. If another request takes the slot meanwhile, the call is
    /// removed at its turn: a request of a higher priority, a heavier one, or one of the same flow.
    ///
    /// With [`Builder::max_wait`](crate::Builder::max_wait) or a [deadline](crate::Class::deadline)
    /// a nested call waits like any other. Nesting is seen in the task of the outer call, and
    /// through other levelers. Nesting is not seen elsewhere, as in a task spawned by the inner or
    /// over a network: set `max_wait` there.
    Nested,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &Self::EACH;

    /// [`ALL`](Self::ALL) as an array, in the order of the counters and of the discriminants.
    pub(crate) const EACH: [Self; 11] = [
        Self::Full,
        Self::CutOff,
        Self::Bypass,
        Self::Evicted,
        Self::MaxWait,
        Self::Deadline,
        Self::WouldMissDeadline,
        Self::Delay,
        Self::Closed,
        Self::NoRuntime,
        Self::Nested,
    ];

    /// Returns whether a rejection is a sign of load: fewer requests or a faster inner would help.
    ///
    /// `Deadline` is a sign of load even on arrival: the request has waited in front of the
    /// leveler, perhaps in `poll_ready`. `Bypass` shows that the whole budget is in use. `Closed`
    /// is the decision of an operator, by `close` or `abort_queued`, or the end of a runtime.
    /// `Nested` is a matter of who calls whom: a wait limit helps.
    pub(crate) fn is_of_load(self) -> bool {
        match self {
            Self::Full
            | Self::CutOff
            | Self::Bypass
            | Self::Evicted
            | Self::MaxWait
            | Self::Deadline
            | Self::WouldMissDeadline
            | Self::Delay => true,
            Self::Closed | Self::NoRuntime | Self::Nested => false,
        }
    }
}

words!(Reason, "reason", {
    Full = "full",
    CutOff = "cut_off",
    Bypass = "bypass",
    Evicted = "evicted",
    MaxWait = "max_wait",
    Deadline = "deadline",
    WouldMissDeadline = "would_miss_deadline",
    Delay = "delay",
    Closed = "closed",
    NoRuntime = "no_runtime",
    Nested = "nested",
});

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::CutOff => "the priority is cut off under overload",
            Self::Bypass => "the bypass limit was reached",
            Self::Evicted => "evicted in favour of another request",
            Self::MaxWait => "the wait limit was reached",
            Self::Deadline => "the deadline passed",
            Self::WouldMissDeadline => "the deadline would be missed",
            Self::Delay => "the queue delay stayed above its target",
            Self::Closed => "the leveler is closed",
            Self::NoRuntime => "no Tokio runtime is running",
            Self::Nested => "a nested call would wait without a bound",
        })
    }
}
