//! The drain task, and what others share with it.

pub(crate) mod backlog;
pub(crate) mod inbox;
pub(crate) mod pace;
pub(crate) mod run;
pub(crate) mod spawn;
pub(crate) mod ticks;
pub(crate) mod wakeup;
