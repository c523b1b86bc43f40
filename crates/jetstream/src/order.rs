//! Order by key: keys choose partitions, and partitions have subjects.

/// The key of a request. A queue [in order](crate::queue::Builder::in_order) makes the calls of a
/// key in turn, in the order of the store.
///
/// Implemented for closures `Fn(&Req) -> String`.
pub trait Key<Req>: Send + Sync + 'static {
    /// Returns the key, of any text. `None` for a request without a key: a queue in order refuses
    /// the request as [`Error::Encode`](crate::Error::Encode).
    fn key(&self, request: &Req) -> Option<String>;
}

impl<Req, F: Fn(&Req) -> String + Send + Sync + 'static> Key<Req> for F {
    fn key(&self, request: &Req) -> Option<String> {
        Some(self(request))
    }
}

/// The default [`Key`]: none.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoKey;

impl<Req> Key<Req> for NoKey {
    fn key(&self, _request: &Req) -> Option<String> {
        None
    }
}

/// The partition of a key. Part of the format: all producers of all versions agree.
pub(crate) fn partition(key: &str, partitions: u16) -> u16 {
    // FNV-1a, of 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits alone depend on the low bits of the bytes alone.
    let spread = (hash ^ (hash >> 32)) % u64::from(partitions.max(1));
    u16::try_from(spread).unwrap_or(0)
}

/// The subject of a partition. The number of partitions is a part: a producer with a wrong number
/// finds no stream.
pub(crate) fn subject(queue: &str, partitions: u16, nth: u16) -> String {
    format!("{queue}.in-order-{partitions}.{nth}")
}

/// The partition of a subject or of an inbox.
pub(crate) fn nth(subject: &str) -> Option<usize> {
    subject.rsplit('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_key_never_changes() {
        let found = ["", "a", "customer 1", "customer 2", "ü"].map(|key| partition(key, 16));
        assert_eq!(found, [1, 0, 5, 0, 13]);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut found = [0_u32; 16];
        for customer in 0..16_000 {
            found[usize::from(partition(&format!("customer-{customer}"), 16))] += 1;
        }
        assert!(found.iter().all(|&many| (850..1150).contains(&many)), "{found:?}");
    }

    #[test]
    fn a_subject_tells_its_partition() {
        assert_eq!(nth(&subject("a.b", 16, 7)), Some(7));
        assert_eq!(nth("orders.new"), None);
    }
}
