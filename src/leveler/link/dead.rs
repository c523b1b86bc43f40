use std::{fmt, sync::Weak};

use crate::queue::InnerId;

/// The news of a failed `poll_ready` of an inner.
pub(crate) struct Dead {
    pub(super) inner: InnerId,
    /// Keeps the address of the inner from being used again, as the name of another inner.
    _address: Weak<dyn Send + Sync>,
}

impl Dead {
    pub(crate) fn new(inner: InnerId, address: Weak<dyn Send + Sync>) -> Self {
        Self { inner, _address: address }
    }
}

impl fmt::Debug for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dead").field(&self.inner).finish()
    }
}
