//! The budget of all retries.

use std::sync::{Arc, OnceLock};

use tower::retry::budget::{Budget, TpsBudget};

/// A budget of any type.
pub(super) type SharedBudget = Arc<dyn Budget + Send + Sync>;

/// The default budget. Made at the first use, since a budget reads the clock of the runtime, and a
/// policy may be made before the runtime.
#[derive(Default)]
pub(super) struct LazyBudget(OnceLock<TpsBudget>);

impl LazyBudget {
    fn get(&self) -> &TpsBudget {
        self.0.get_or_init(TpsBudget::default)
    }
}

impl Budget for LazyBudget {
    fn deposit(&self) {
        self.get().deposit();
    }

    fn withdraw(&self) -> bool {
        self.get().withdraw()
    }
}
