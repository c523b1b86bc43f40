//! What an operator can do about each reason: the table of `docs/watching.md`, in short.

use tower_load_leveling::error::Reason;

/// Returns the reason in some words, as the page calls it.
pub(crate) fn label(reason: Reason) -> &'static str {
    match reason {
        Reason::Full => "queue full",
        Reason::CutOff => "priority cut off",
        Reason::Bypass => "bypass limit reached",
        Reason::Evicted => "evicted",
        Reason::MaxWait => "waited too long",
        Reason::Deadline => "deadline passed",
        Reason::WouldMissDeadline => "would miss its deadline",
        Reason::Delay => "standing queue",
        Reason::Closed => "closed",
        Reason::NoRuntime => "no runtime",
        Reason::Nested => "nested call",
        other => other.as_str(),
    }
}

/// Returns what helps if requests are turned away for the reason.
pub(crate) fn help(reason: Reason) -> &'static str {
    match reason {
        Reason::Full => {
            "The burst is longer than the queue. More capacity, if the wait is still worth it; \
             else more backend."
        }
        Reason::CutOff => {
            "Lasting overload: the lowest priorities go first, on purpose. More backend, or fewer \
             requests of low priority."
        }
        Reason::Bypass => {
            "More health checks at once than bypass_limit. Raise it, or ask less often."
        }
        Reason::Evicted => {
            "Higher priorities, shorter flows or newer requests took the place, on purpose. More \
             backend."
        }
        Reason::MaxWait => {
            "The queue is longer than max_wait allows. More backend, less capacity, or the order \
             adaptive_lifo."
        }
        Reason::Deadline => {
            "Callers give less time than the wait takes. More backend, less capacity, or the order \
             adaptive_lifo."
        }
        Reason::WouldMissDeadline => {
            "Callers give less time than the wait and a call take. More backend, or more time."
        }
        Reason::Delay => "Controlled delay keeps the queue short. More backend.",
        Reason::Closed => "The leveler was closed: send the traffic elsewhere.",
        Reason::NoRuntime => "Calls come from outside of a Tokio runtime.",
        Reason::Nested => {
            "The service calls its own leveler. Set max_wait, or call what it needs without the \
             layer."
        }
        _ => "See the documentation of Reason.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_and_something_that_helps() {
        let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| label(*r)).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| help(*reason) != help_of_later_reasons()));
    }

    fn help_of_later_reasons() -> &'static str {
        "See the documentation of Reason."
    }
}
