//! The metrics of a leveler, as one table for all exporters.
//!
//! A look at the numbers of a leveler ([`Look`]) becomes series by [`FAMILIES`]. No code here runs
//! in a call: exporters look once per scrape or second. No series is named by a flow, a route or an
//! address, so the enums of the crate fix the number of series.

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
