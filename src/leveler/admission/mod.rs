//! May a request come in?

pub(crate) mod demand;
pub(crate) mod occupancy;
pub(crate) mod places;
pub(crate) mod prediction;
pub(crate) mod refusal;
pub(crate) mod reservation;
pub(crate) mod shedder;
pub(crate) mod waitlist;
pub(crate) mod word;
