//! Prediction of deadlines: requests predicted to be late are refused before any cost arises.
//!
//! [`ServiceTimes`](service_times::ServiceTimes) knows the times of calls by priority, and
//! [`BudgetTimes`](budget_times::BudgetTimes) by the time given by callers.
//! [`Predictor`](predictor::Predictor) joins both with the waiting work, and answers.

mod budget_times;
mod mean;
pub(crate) mod predictor;
pub(crate) mod service_times;
