use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::leveler::contain::lock;

/// Messages to the drain task, which takes all of them at once and mostly finds none: that costs no
/// lock.
#[derive(Debug, Default)]
pub(crate) struct Inbox<T> {
    content: Mutex<T>,
    is_filled: AtomicBool,
}

impl<T> Inbox<T> {
    pub(crate) fn put(&self, put: impl FnOnce(&mut T)) {
        let mut content = lock(&self.content);
        put(&mut content);
        self.is_filled.store(true, SeqCst);
    }

    /// Takes the content, and leaves `empty` instead. A task that is woken after a `put` finds its
    /// message.
    pub(crate) fn swap(&self, empty: &mut T) {
        if self.is_filled.load(SeqCst) {
            let mut content = lock(&self.content);
            self.is_filled.store(false, SeqCst);
            std::mem::swap(&mut *content, empty);
        }
    }
}
