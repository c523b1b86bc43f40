//! Instructions, as valgrind counts them.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::{cases::Case, drive::CALLERS};

/// The hidden argument: run a case, so many calls.
pub(crate) const RUN: &str = "--run";

/// Enough that buffers have grown, and that the layer knows how its inner is.
const FEW: usize = 4 * CALLERS;
const MANY: usize = FEW + 16 * CALLERS;

/// Of cachegrind, which counts them exactly; its simulation of caches would take longer, and is
/// none of the machine.
const VALGRIND: [&str; 3] =
    ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];

const MISSING: &str = "valgrind is needed, and is not here: `apt-get install valgrind`, \
                       `dnf install valgrind`, or https://valgrind.org";

/// Instructions per call.
pub(crate) type Count = (&'static str, f64);

pub(crate) fn count(cases: &[Case]) -> Result<Vec<Count>, String> {
    let here = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !here.is_ok_and(|status| status.success()) {
        return Err(MISSING.to_owned());
    }
    let count = |(name, _): &Case| Ok((*name, (total(name, MANY)? - total(name, FEW)?) / CALLS));
    cases.iter().map(count).collect()
}

const CALLS: f64 = (MANY - FEW) as f64;

/// Instructions of a process that makes so many calls.
fn total(case: &str, calls: usize) -> Result<f64, String> {
    let this =
        env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let output = Command::new("valgrind")
        .args(VALGRIND)
        .arg(this)
        .args([RUN, case, &calls.to_string()])
        // Nothing of the environment, which is on the stack and moves what is above it.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .map_err(|error| format!("valgrind cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match said.lines().find_map(total_in) {
        Some(total) if output.status.success() => Ok(total),
        _ => Err(format!("{case}: valgrind has not counted it\n{said}")),
    }
}

/// From `==1== I   refs:      1,234`.
fn total_in(line: &str) -> Option<f64> {
    let (what, total) = line.split_once(':')?;
    let what: Vec<_> = what.split_whitespace().skip(1).collect();
    let total = total.replace(',', "");
    if what == ["I", "refs"] { total.trim().parse().ok() } else { None }
}
