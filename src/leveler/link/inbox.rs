use crate::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Messages to the drain task, taken all at once. Finding none is the usual case, and costs no
/// lock.
#[derive(Debug, Default)]
pub(crate) struct Inbox<T> {
    content: Mutex<T>,
    is_filled: AtomicBool,
}

impl<T> Inbox<T> {
    pub(crate) fn put(&self, put: impl FnOnce(&mut T)) {
        self.content.with(|content| {
            put(content);
            self.is_filled.store(true, SeqCst);
        });
    }

    /// Returns whether there is no message. A task woken after a `put` finds the message.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_filled.load(SeqCst)
    }

    /// Takes the content, and leaves `empty` instead.
    #[inline]
    pub(crate) fn swap(&self, empty: &mut T) {
        if !self.is_empty() {
            self.content.with(|content| {
                self.is_filled.store(false, SeqCst);
                std::mem::swap(content, empty);
            });
        }
    }
}
