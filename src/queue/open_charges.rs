//! The charges of running calls.

use std::num::NonZeroU32;

use super::charge::{Charge, ChargeId};

/// Charges by id. Ids of closed charges are used again.
#[derive(Debug, Default)]
pub(super) struct OpenCharges {
    charges: Vec<Option<Charge>>,
    free: Vec<ChargeId>,
}

impl OpenCharges {
    /// Keeps a charge for a later correction. Returns `None` if no id is left: the charge then
    /// stays an estimate.
    #[inline(always)]
    pub(super) fn open(&mut self, charge: &Charge) -> Option<ChargeId> {
        if let Some(id) = self.free.pop() {
            self.charges[id.index()] = Some(*charge);
            return Some(id);
        }
        let number = u32::try_from(self.charges.len() + 1).ok().and_then(NonZeroU32::new)?;
        self.charges.push(Some(*charge));
        Some(ChargeId::new(number))
    }

    /// Takes a charge out, unless closed before.
    pub(super) fn close(&mut self, id: ChargeId) -> Option<Charge> {
        let charge = self.charges.get_mut(id.index())?.take()?;
        self.free.push(id);
        Some(charge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_closed_once_and_its_number_used_again() {
        let mut open = OpenCharges::default();
        let charge = Charge::default();
        let (first, second) = (open.open(&charge), open.open(&charge));
        assert_ne!(first, second);
        let first = first.expect("numbered");
        assert!(open.close(first).is_some());
        assert!(open.close(first).is_none());
        assert_eq!(open.open(&charge), Some(first));
    }
}
