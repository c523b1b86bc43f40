use std::collections::BTreeSet;

use crate::{
    handle::Handle,
    sync::figure::{AtomicBool, Ordering::Relaxed},
};

/// Gives levelers different names: of several with one name, the second is `name#2`.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Returns the name of a leveler, or the next free name. Warns of the first clash in the
    /// process.
    pub(crate) fn give(&mut self, handle: &Handle) -> String {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let wanted = handle.name();
        let numbered =
            |nth: u64| if nth == 1 { wanted.to_owned() } else { format!("{wanted}#{nth}") };
        let mut nth = 1;
        while !self.0.insert(numbered(nth)) {
            nth += 1;
        }
        let given = numbered(nth);
        if nth > 1 && !WARNED.swap(true, Relaxed) {
            tracing::warn!(name = wanted, %given, "several levelers have one name");
        }
        given
    }
}
