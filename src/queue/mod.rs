//! The line: what waits, in which order, and until when.
//!
//! Plain structs. Time comes in as an argument; there is no clock, lock or `await` here, so all of it is
//! tested without a runtime.

mod expiry;
mod lanes;
mod line;

pub(crate) use self::{expiry::Expiry, line::Line};

use tokio::time::Instant;

/// Names the inner service that a request is for.
pub(crate) type LaneId = usize;

/// Something that waits, and may have gone without saying so to the line.
pub(crate) trait Waiting {
    fn is_gone(&self) -> bool;
}

/// One request in the line.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Position in the order of arrival; given by the line.
    pub(crate) seq: u64,
    pub(crate) lane: LaneId,
    pub(crate) admitted: Instant,
    pub(crate) item: T,
}

#[cfg(test)]
pub(crate) mod testing {
    use std::{cell::Cell, rc::Rc};

    use super::Waiting;

    /// A request that can be told to have gone.
    #[derive(Clone, Debug)]
    pub(crate) struct Item {
        pub(crate) id: u32,
        pub(crate) gone: Rc<Cell<bool>>,
    }

    impl Item {
        pub(crate) fn new(id: u32) -> Self {
            Self { id, gone: Rc::default() }
        }
    }

    impl Waiting for Item {
        fn is_gone(&self) -> bool {
            self.gone.get()
        }
    }
}
