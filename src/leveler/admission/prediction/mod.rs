//! Prediction of deadlines: requests predicted to be late are refused before any cost arises.
//!
//! [`ServiceTimes`](service_times::ServiceTimes) knows the times of calls by priority, and
//! [`Histories`](histories::Histories) by kind, or else by the time given by callers.
//! [`Predictor`](predictor::Predictor) joins both with the waiting work, and answers.

pub(crate) mod histories;
mod history;
mod kind_table;
mod mean;
pub(crate) mod predictor;
pub(crate) mod service_times;
