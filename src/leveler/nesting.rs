//! Nested calls: calls made by the inner of a leveler, on behalf of a running call.
//!
//! A nested call of the same leveler waits for a slot while the outer call holds a slot. If waiting
//! outer calls hold all slots, no call ever ends.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};

thread_local! {
    /// The leveler whose inner runs on this thread, as an address with flags in the low bits.
    static SCOPE: Cell<usize> = const { Cell::new(0) };
    /// The ancestry of the running call, while `HAS_ANCESTRY` is set.
    static ANCESTRY: RefCell<Option<Call>> = const { RefCell::new(None) };
    /// The ancestries of the calls further up the stack.
    static ASIDE: RefCell<Vec<Option<Call>>> = const { RefCell::new(Vec::new()) };
}

/// Inline first polls are suppressed.
const NO_INLINE: usize = 1;

/// The running call has an ancestry: the call is nested itself, or has made a call.
const HAS_ANCESTRY: usize = 2;

/// The bits of the address. A core is aligned to 8 bytes at least, because of its counters.
const ADDRESS: usize = !7;

/// A leveler, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unnameable_types, unreachable_pub, reason = "part of a trait for this crate alone")]
pub struct LevelerId(usize);

impl LevelerId {
    #[inline]
    pub(crate) fn of<T>(leveler: &T) -> Self {
        Self(std::ptr::from_ref(leveler).addr() & ADDRESS)
    }
}

/// A call in a chain of nested calls, on the way to the running call.
#[derive(Debug)]
struct Ancestor {
    leveler: LevelerId,
    /// Set once the call has ended. Calls left behind by an ended call do not wait for its slot.
    has_ended: AtomicBool,
    outer: Option<Arc<Self>>,
}

/// The place of a call in the chain of outer calls. Empty for a call without an outer call and
/// without nested calls.
#[derive(Debug, Default)]
pub(crate) struct Lineage(Option<Call>);

/// A call in the chain, for as long as it runs. Ends in `Drop`.
#[derive(Debug)]
struct Call(Arc<Ancestor>);

impl Lineage {
    /// Returns the lineage of a call of `leveler` made right now on this thread.
    #[inline]
    pub(crate) fn of_call(leveler: LevelerId) -> Self {
        let outer = SCOPE.get();
        if outer & ADDRESS == 0 { Self(None) } else { Self::nested(leveler, outer) }
    }

    #[cold]
    fn nested(leveler: LevelerId, outer: usize) -> Self {
        let outer = ANCESTRY.with_borrow_mut(|call| {
            let call = call.get_or_insert_with(|| {
                SCOPE.set(outer | HAS_ANCESTRY);
                let leveler = LevelerId(outer & ADDRESS);
                let has_ended = AtomicBool::new(false);
                Call(Arc::new(Ancestor { leveler, has_ended, outer: None }))
            });
            Arc::clone(&call.0)
        });
        let has_ended = AtomicBool::new(false);
        Self(Some(Call(Arc::new(Ancestor { leveler, has_ended, outer: Some(outer) }))))
    }

    /// Returns whether a running call of `leveler` has led to the present call.
    #[inline]
    pub(crate) fn is_nested_in(&self, leveler: LevelerId) -> bool {
        self.0.as_ref().is_some_and(|call| call.0.is_nested_in(leveler))
    }
}

impl Ancestor {
    #[cold]
    fn is_nested_in(&self, leveler: LevelerId) -> bool {
        let mut outer = self.outer.as_ref();
        while let Some(ancestor) = outer {
            if ancestor.leveler == leveler && !ancestor.has_ended.load(SeqCst) {
                return true;
            }
            outer = ancestor.outer.as_ref();
        }
        false
    }
}

impl Drop for Call {
    #[cold]
    fn drop(&mut self) {
        self.0.has_ended.store(true, SeqCst);
    }
}

/// Returns whether this thread runs the inner of `leveler`, or a call nested in such a call.
#[inline]
pub(crate) fn is_within(leveler: LevelerId) -> bool {
    let scope = SCOPE.get();
    scope & ADDRESS != 0 && is_within_scope(leveler, scope)
}

#[cold]
fn is_within_scope(leveler: LevelerId, scope: usize) -> bool {
    LevelerId(scope & ADDRESS) == leveler
        || ANCESTRY.with_borrow(|ancestor| {
            ancestor.as_ref().is_some_and(|call| call.0.is_nested_in(leveler))
        })
}

/// The time during which a thread runs the inner of a leveler for a call. Ends in `Drop`.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    before: usize,
    lineage: &'a mut Lineage,
}

impl<'a> Scope<'a> {
    /// Begins to run the inner's future.
    #[inline(always)]
    pub(crate) fn of_poll(leveler: LevelerId, lineage: &'a mut Lineage) -> Self {
        Self::begin(leveler, lineage, 0)
    }

    /// Begins to poll the inner for readiness, or to call it. Suppresses inline first polls: the
    /// inner is locked, and may call another leveler.
    #[inline(always)]
    pub(crate) fn of_call(leveler: LevelerId, lineage: &'a mut Lineage) -> Self {
        Self::begin(leveler, lineage, NO_INLINE)
    }

    #[inline(always)]
    fn begin(leveler: LevelerId, lineage: &'a mut Lineage, flags: usize) -> Self {
        let before = SCOPE.get();
        // With `cfg(shuttle)` one thread plays all, and would see the scopes of other threads.
        let leveler = if cfg!(shuttle) { 0 } else { leveler.0 };
        let scope = leveler | before & NO_INLINE | flags;
        let mut this = Self { before, lineage };
        if this.lineage.0.is_some() || before & HAS_ANCESTRY != 0 {
            this.swap_ancestry(scope);
        } else {
            SCOPE.set(scope);
        }
        this
    }

    #[cold]
    fn swap_ancestry(&mut self, scope: usize) {
        let ancestry = self.lineage.0.take();
        SCOPE.set(if ancestry.is_some() { scope | HAS_ANCESTRY } else { scope });
        let before = ANCESTRY.replace(ancestry);
        if self.before & HAS_ANCESTRY != 0 {
            ASIDE.with_borrow_mut(|aside| aside.push(before));
        }
    }

    #[cold]
    fn swap_ancestry_back(&mut self) {
        let before = match self.before & HAS_ANCESTRY {
            0 => None,
            _ => ASIDE.with_borrow_mut(Vec::pop).flatten(),
        };
        self.lineage.0 = ANCESTRY.replace(before);
    }
}

impl Drop for Scope<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let scope = SCOPE.replace(self.before);
        if (scope | self.before) & HAS_ANCESTRY != 0 {
            self.swap_ancestry_back();
        }
    }
}

/// Suppresses inline first polls on the thread, while alive: nested polls would go on the same
/// stack.
#[derive(Debug)]
pub(crate) struct NoInline {
    before: usize,
}

impl NoInline {
    #[inline]
    pub(crate) fn begin() -> Self {
        let before = SCOPE.get();
        SCOPE.set(before | NO_INLINE);
        Self { before }
    }

    /// Returns whether inline first polls are suppressed.
    #[inline]
    pub(crate) fn is_on() -> bool {
        SCOPE.get() & NO_INLINE != 0
    }
}

impl Drop for NoInline {
    #[inline]
    fn drop(&mut self) {
        // A call made meanwhile may have given the outer call an ancestry.
        SCOPE.set(SCOPE.get() & !NO_INLINE | self.before & NO_INLINE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LevelerId = LevelerId(8);
    const B: LevelerId = LevelerId(16);

    #[test]
    fn a_call_is_within_the_leveler_whose_inner_runs_and_no_longer() {
        let (mut outer, mut other) = (Lineage::of_call(A), Lineage::of_call(B));
        assert!(!is_within(A));
        let scope = Scope::of_poll(A, &mut outer);
        assert!(is_within(A) && !is_within(B));
        // A poll of an unnested call on the same stack.
        let inside = Scope::of_poll(B, &mut other);
        assert!(is_within(B) && !is_within(A));
        drop(inside);
        assert!(is_within(A) && !is_within(B));
        drop(scope);
        assert!(!is_within(A));
    }

    #[test]
    fn a_chain_is_seen_in_another_task_while_the_outer_call_runs() {
        let mut outer = Lineage::of_call(A);
        let scope = Scope::of_call(A, &mut outer);
        let mut middle = Lineage::of_call(B);
        drop(scope);
        assert!(middle.is_nested_in(A) && !middle.is_nested_in(B) && !outer.is_nested_in(A));
        for has_ended in [false, true] {
            let scope = Scope::of_poll(B, &mut middle);
            assert!(is_within(B));
            assert_eq!(is_within(A), !has_ended, "what has ended waits for nothing");
            let inner = Lineage::of_call(A);
            assert_eq!(inner.is_nested_in(A), !has_ended);
            drop(scope);
            assert!(!is_within(A) && !is_within(B));
            if !has_ended {
                drop(std::mem::take(&mut outer));
            }
        }
    }

    #[test]
    fn scopes_nest_on_one_stack() {
        let mut outer = Lineage::of_call(A);
        let first = Scope::of_poll(A, &mut outer);
        let mut middle = Lineage::of_call(B);
        let second = Scope::of_poll(B, &mut middle);
        assert!(is_within(A) && is_within(B));
        let mut inner = Lineage::of_call(A);
        let third = Scope::of_call(A, &mut inner);
        assert!(is_within(A) && is_within(B) && NoInline::is_on());
        drop(third);
        assert!(!NoInline::is_on());
        drop(second);
        assert!(is_within(A) && !is_within(B));
        drop(first);
        assert!(!is_within(A));
    }
}
