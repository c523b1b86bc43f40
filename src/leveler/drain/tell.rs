//! The events about overload and stalls, with their fields.

use std::fmt;

use tokio::time::Instant;

use crate::{
    error::Reason,
    leveler::{core::Core, overload::OverloadEvent, stall::StallEvent, vitals::Period},
    stats::ReasonCounts,
};

/// Reports overload: begin and end at `info`, and each minute at `warn`.
pub(super) fn tell_overload(core: &Core, event: OverloadEvent) {
    let (OverloadEvent::Begins(period)
    | OverloadEvent::GoesOn(period)
    | OverloadEvent::Ends(period)) = event;
    let Period { length, asked, done, rejected } = period;
    let (name, reasons, rejected) = (&*core.settings.name, Reasons(rejected), rejected.total());
    let (limit, queued) = (core.admission.limit(), core.admission.occupancy.queued());
    let (seconds, oldest_wait) = (length.as_secs_f64(), oldest_wait(core));
    macro_rules! tell {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                %name, seconds, asked, done, rejected, %reasons, limit, queued, oldest_wait,
                $message
            )
        };
    }
    match event {
        OverloadEvent::Begins(_) => tell!(info, "overload begins"),
        OverloadEvent::GoesOn(_) => tell!(warn, "overload goes on"),
        OverloadEvent::Ends(_) => tell!(info, "overload ends"),
    }
}

/// Reports a stall: the begin at `warn`, and the end at `info`.
pub(super) fn tell_stall(core: &Core, event: StallEvent) {
    let (name, limit) = (&*core.settings.name, core.admission.limit());
    let (queued, oldest_wait) = (core.admission.occupancy.queued(), oldest_wait(core));
    match event {
        StallEvent::Begins(lasts) => {
            let seconds = lasts.as_secs_f64();
            tracing::warn!(
                %name, seconds, limit, queued, oldest_wait,
                "nothing has finished for 5 s, all slots are taken"
            );
        }
        StallEvent::Ends(lasted) => {
            let seconds = lasted.as_secs_f64();
            tracing::info!(%name, seconds, limit, queued, oldest_wait, "stall ends");
        }
    }
}

/// Returns the wait of the oldest request, in seconds; 0 if none waits.
fn oldest_wait(core: &Core) -> f64 {
    let (oldest, _) = core.link.backlog().oldest_admitted(core.admission.occupancy.queued());
    oldest.map_or(0.0, |admitted| Instant::now().saturating_duration_since(admitted).as_secs_f64())
}

/// Prints the counts above zero: `full=1279 cut_off=12`.
struct Reasons(ReasonCounts);

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = Reason::EACH.into_iter().filter(|reason| self.0.get(*reason) > 0);
        counted.enumerate().try_for_each(|(nth, reason)| {
            let space = if nth > 0 { " " } else { "" };
            write!(f, "{space}{}={}", reason.as_str(), self.0.get(reason))
        })
    }
}
