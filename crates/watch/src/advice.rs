//! The advice for each reason: the table of `docs/watching.md`, in short.

use tower_load_leveling::error::Reason;

/// Returns the name of the reason on the page.
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

/// Returns the advice for an operator whose requests are turned away for the reason.
pub(crate) fn help(reason: Reason) -> &'static str {
    match reason {
        Reason::Full => {
            "More capacity, if the wait is still worth it; else more backend. The burst is longer \
             than the queue."
        }
        Reason::CutOff => {
            "More backend, or fewer requests of low priority. Under lasting overload the lowest \
             priorities are cut off first, on purpose."
        }
        Reason::Bypass => "A higher bypass_limit, or fewer health checks at once.",
        Reason::Evicted => {
            "More backend. Higher priorities, shorter flows or newer requests took the place, on \
             purpose."
        }
        Reason::MaxWait => {
            "More backend, less capacity, or the order adaptive_lifo. The queue is longer than \
             max_wait allows."
        }
        Reason::Deadline => {
            "More backend, less capacity, or the order adaptive_lifo. Callers give less time than \
             the wait takes."
        }
        Reason::WouldMissDeadline => {
            "More backend, or more time. Callers give less than the wait and a call take."
        }
        Reason::Delay => "More backend. Controlled delay keeps the queue short, on purpose.",
        Reason::Closed => "Traffic sent elsewhere. The leveler was closed.",
        Reason::NoRuntime => "Calls made within a Tokio runtime.",
        Reason::Nested => {
            "A max_wait, or inner calls without the layer. The service calls its own leveler."
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
