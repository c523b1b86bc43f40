use std::sync::OnceLock;

use super::{history::History, kind_table::KindTable};
use crate::{
    class::Priority,
    leveler::{budget::Budget, kind::Kind},
};

const LEVELS: usize = Priority::ALL.len();

/// The facts that make requests alike: kind and priority, or without a kind the budget and
/// priority.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Likeness {
    pub(crate) kind: Kind,
    pub(crate) priority: Priority,
    pub(crate) budget: Budget,
}

/// The histories of some kinds, by priority.
type Levels = Box<[[History; LEVELS]]>;

/// The histories of all kinds and budgets. Memory is taken at first use: 4 KiB for requests without
/// a kind, 56 KiB for kinds.
#[derive(Debug)]
pub(super) struct Histories {
    by_budget: OnceLock<Levels>,
    by_kind: OnceLock<Box<(KindTable, Levels)>>,
}

fn histories(count: usize) -> Levels {
    (0..count).map(|_| std::array::from_fn(|_| History::new())).collect()
}

impl Histories {
    pub(super) fn new() -> Self {
        Self { by_budget: OnceLock::new(), by_kind: OnceLock::new() }
    }

    /// Returns the kind with the hash `hash`.
    pub(super) fn kind(&self, hash: u64) -> Kind {
        let both = || Box::new((KindTable::new(), histories(Kind::COUNT)));
        self.by_kind.get_or_init(both).0.kind(hash)
    }

    /// Returns the history of like requests. `None` for requests without kind and deadline, and for
    /// kinds beyond the known number.
    #[inline]
    pub(super) fn of(&self, like: Likeness) -> Option<&History> {
        // Most requests have neither.
        if like.kind == Kind::NONE && like.budget == Budget::NONE { None } else { self.known(like) }
    }

    #[inline]
    fn known(&self, like: Likeness) -> Option<&History> {
        let Likeness { kind, priority, budget } = like;
        let levels = match kind.index() {
            Some(index) => self.by_kind.get()?.1.get(index)?,
            None if kind == Kind::BEYOND || budget == Budget::NONE => return None,
            None => self.by_budget.get_or_init(|| histories(Budget::KINDS)).get(budget.kind())?,
        };
        levels.get(priority.index())
    }
}
