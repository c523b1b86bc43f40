//! The table, and the verdict.

use std::sync::atomic::Ordering::Relaxed;

use tower::BoxError;

use crate::{LIMIT, Plan, WORKERS, run::Run};

pub(crate) fn print(runs: &[Run]) {
    let row = |what: &str, value: &dyn Fn(&Run) -> String| {
        let values: String = runs.iter().map(|run| format!("{:>16}", value(run))).collect();
        println!("{what:<42}{values}");
    };
    println!();
    row("", &|run| run.kind.name().to_owned());
    row("stored", &|run| run.stored.to_string());
    row("  told that the broker was away", &|run| run.told.away.load(Relaxed).to_string());
    row("  not told, so sent again under their id", &|run| {
        run.told.unknown.load(Relaxed).to_string()
    });
    row("  had been stored before", &|run| run.told.duplicates.load(Relaxed).to_string());
    row("done", &|run| run.done.len().to_string());
    row("lost", &|run| run.lost().to_string());
    row("done twice", &|run| run.twice().to_string());
    row("left in the stream for good", &|run| run.left.to_string());
    row("most delivered and not acked", &|run| run.most_in_hand().to_string());
    row("longest standstill", &|run| format!("{:.1} s", run.standstill().as_secs_f64()));
    row("the last one done after", &|run| format!("{:.1} s", run.took.as_secs_f64()));
}

/// What must hold in any run.
pub(crate) fn verdict(run: &Run) -> Result<(), BoxError> {
    let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(BoxError::from(what)) };
    ensure(run.lost() == 0, "stored messages were lost")?;
    ensure(run.left == 0, "messages stayed in the stream")?;
    // Two calls that wait beside the limit, for each worker, and what is acked in 100 ms.
    let most = (WORKERS * (LIMIT + LIMIT / 4)) as f64 + Plan::rate() / 10.0;
    let ratio = run.twice() as f64 / most;
    println!("\nDone twice, of what the workers hold and ack in 100 ms: {ratio:.2} (bar: 1).");
    println!("Every message that was stored was done, and none is left.");
    Ok(())
}
