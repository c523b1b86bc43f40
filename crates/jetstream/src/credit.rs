//! How many messages a worker may ask for. Pure.

/// The share of limit + prefetch worth a pull: a quarter. Fewer, larger pulls cost the broker less.
/// More, smaller pulls come sooner.
const WORTH_A_PULL: usize = 4;

/// The messages of a worker, and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    pub(crate) limit: usize,
    pub(crate) prefetch: usize,
    pub(crate) in_hand: usize,
    pub(crate) asked_for: usize,
}

impl Credit {
    /// How many messages to ask for now. Never more than limit + prefetch come to be in
    /// hand.
    pub(crate) fn to_ask(self) -> usize {
        let credit = self.left();
        let worth_it = self.asked_for == 0 || credit >= self.most().div_ceil(WORTH_A_PULL);
        if worth_it { credit } else { 0 }
    }

    /// How many messages the worker may ask for, worth a pull or not.
    pub(crate) fn left(self) -> usize {
        self.most().saturating_sub(self.in_hand.saturating_add(self.asked_for))
    }

    /// The most messages in hand.
    pub(crate) fn most(self) -> usize {
        self.limit.saturating_add(self.prefetch)
    }
}

/// The default prefetch: a quarter of the limit.
pub(crate) fn default_prefetch(limit: usize) -> usize {
    (limit / 4).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Law J3, against a broker with any deliveries up to the number asked for.
        #[test]
        fn in_hand_never_exceeds_limit_and_prefetch_while_the_limit_stands(
            limit in 1_usize..20,
            prefetch in 0_usize..20,
            steps in prop::collection::vec((any::<bool>(), 0_usize..10), 1..200),
        ) {
            let (mut in_hand, mut asked_for) = (0, 0);
            for (delivers, many) in steps {
                asked_for += Credit { limit, prefetch, in_hand, asked_for }.to_ask();
                if delivers {
                    let many = many.min(asked_for);
                    (asked_for, in_hand) = (asked_for - many, in_hand + many);
                } else {
                    in_hand -= many.min(in_hand);
                }
                prop_assert!(in_hand + asked_for <= limit + prefetch);
            }
        }

        #[test]
        fn a_worker_with_nothing_asked_for_and_credit_asks(
            limit in 1_usize..20,
            prefetch in 0_usize..20,
            in_hand in 0_usize..50,
        ) {
            let ask = Credit { limit, prefetch, in_hand, asked_for: 0 }.to_ask();
            prop_assert_eq!(ask, (limit + prefetch).saturating_sub(in_hand));
        }
    }

    #[test]
    fn a_lowered_limit_asks_for_nothing_until_there_is_credit_again() {
        let credit = Credit { limit: 4, prefetch: 1, in_hand: 8, asked_for: 0 };
        assert_eq!(credit.to_ask(), 0);
        assert_eq!(Credit { in_hand: 4, ..credit }.to_ask(), 1);
    }
}
