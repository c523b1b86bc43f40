//! The names of flows, if the program gives any.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tower_load_leveling::stats::FlowId;

/// The program's function for names of flows. None by default: the page then shows ids, which lead
/// to no tenant.
#[derive(Clone, Default)]
pub(crate) struct Names(Option<Arc<Give>>);

type Give = dyn Fn(FlowId) -> Option<String> + Send + Sync;

impl Names {
    pub(crate) fn new(give: impl Fn(FlowId) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(give)))
    }

    /// Returns the name of a flow. A panic of the program's function leaves the flow without one.
    pub(crate) fn of(&self, flow: FlowId) -> Option<String> {
        let give = self.0.as_ref()?;
        catch_unwind(AssertUnwindSafe(|| give(flow))).ok().flatten()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Names(given)" } else { "Names(none)" })
    }
}
