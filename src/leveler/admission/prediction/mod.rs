//! Prediction of deadlines: requests that would be late are refused before they cost anything.
//!
//! [`ServiceTimes`](service_times::ServiceTimes) knows how long calls take, and
//! [`BudgetTimes`](budget_times::BudgetTimes) knows it by the time that callers give.
//! [`Predictor`](predictor::Predictor) joins both with what waits, and answers.

mod budget_times;
mod mean;
pub(crate) mod predictor;
pub(crate) mod service_times;
