//! The metrics of a leveler, as one table for all that export them.
//!
//! A look at the numbers of a leveler ([`Look`]) becomes series by
//! [`FAMILIES`]. Nothing here is on
//! the path of a call: exporters look once per scrape or second. No series is named by a flow, a
//! route or an address, so their number is fixed by the enums of the crate.

mod family;
mod names;
mod table;

#[cfg(feature = "metrics")]
pub(crate) use self::family::Series;
pub(crate) use self::{
    family::{Look, Read},
    names::Names,
    table::FAMILIES,
};
