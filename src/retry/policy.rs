//! The policy.

use std::{fmt, sync::Arc, time::Duration};

use tower::retry::{Policy, budget::Budget};

#[cfg(feature = "http")]
use super::http_advice::HttpAdvice;
use super::{
    advice::{Advice, RejectionAdvice, RetryAdvice, rejected},
    budget::{LazyBudget, SharedBudget},
    clone::{ByClone, CloneRequest},
    delay::RetryDelay,
};
use crate::rng::draw;

/// A [`Policy`] for [`tower::retry`] that retries refused requests after the time in the refusal.
///
/// Retries have a [number of attempts](Self::max_attempts), a [longest delay](Self::max_delay) and
/// a [budget](Self::budget) shared by all clones of the policy. Beyond these bounds the caller gets
/// the refusal. Other results are never retried.
///
/// A refusal without a time is retried after a backoff. The nth backoff is the
/// [base](Self::backoff) times 2ⁿ⁻¹, at most the longest delay, less up to a half at random.
///
/// Needs a runtime with timers enabled.
///
/// See [`retry`](super) for an example.
pub struct RetryPolicy<A = RejectionAdvice, K = ByClone> {
    config: Config,
    reader: Arc<A>,
    cloner: Arc<K>,
    /// The attempts made for the request of this clone.
    made: u32,
}

#[derive(Clone)]
struct Config {
    max_attempts: u32,
    max_delay: Duration,
    backoff: Duration,
    budget: SharedBudget,
}

/// The default number of attempts: the call, and two retries. Two retries outlast a burst. More
/// retries add load during a longer overload.
const MAX_ATTEMPTS: u32 = 3;

/// The default longest delay. [`Rejected::retry_after`](crate::error::Rejected::retry_after) is
/// never longer.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The default base of backoffs: some round trips between machines in a region.
const BACKOFF: Duration = Duration::from_millis(50);

impl RetryPolicy {
    /// Returns a policy that retries calls rejected by a leveler in this process.
    #[must_use]
    pub fn new() -> Self {
        let config = Config {
            max_attempts: MAX_ATTEMPTS,
            max_delay: MAX_DELAY,
            backoff: BACKOFF,
            budget: Arc::new(LazyBudget::default()),
        };
        Self { config, reader: Arc::new(RejectionAdvice), cloner: Arc::new(ByClone), made: 0 }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl<A, K> RetryPolicy<A, K> {
    /// Sets the number of attempts for a request, the first one included. 0 counts as 1: no retry.
    /// Default is 3.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.max_attempts = attempts;
        self
    }

    /// Sets the longest delay between two attempts. A refusal with a longer time is not retried.
    /// Default is one minute.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.config.max_delay = delay;
        self
    }

    /// Sets the first backoff, for refusals without a time to retry. Default is 50 ms.
    #[must_use]
    pub fn backoff(mut self, base: Duration) -> Self {
        self.config.backoff = base;
        self
    }

    /// Sets the budget of retries, shared by all clones of this policy. Each retry withdraws, and
    /// each `Ok` deposits, except refusals.
    ///
    /// Default is tower's [`TpsBudget`](tower::retry::budget::TpsBudget) with 10 retries a second
    /// and 20 % of the successes, over the last 10 s.
    #[must_use]
    pub fn budget(mut self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.config.budget = Arc::new(budget);
        self
    }

    /// Reads refusals with a closure, for responses and errors of other clients. A
    /// [`Rejected`](crate::error::Rejected) of a leveler in this process is read first.
    ///
    /// Write out the types of the closure's parameters. For reqwest:
    ///
    #[cfg_attr(feature = "http", doc = "```")]
    #[cfg_attr(not(feature = "http"), doc = "```ignore")]
    /// use tower::ServiceBuilder;
    /// use tower_load_leveling::{LoadLevelLayer, retry::{Advice, RetryPolicy}};
    ///
    /// let policy = RetryPolicy::new()
    ///     .clone_with(reqwest::Request::try_clone)
    ///     .advice(|_: &reqwest::Request, result: Result<&reqwest::Response, &tower::BoxError>| {
    ///         let response = result.ok()?;
    ///         Advice::from_http(response.status(), response.headers())
    ///     });
    /// let client = ServiceBuilder::new()
    ///     .retry(policy)
    ///     .layer(LoadLevelLayer::new(8, 4))
    ///     .service(reqwest::Client::new());
    /// # drop(client);
    /// ```
    #[must_use]
    pub fn advice<B>(self, advice: B) -> RetryPolicy<B, K> {
        let Self { config, reader: _, cloner, made } = self;
        RetryPolicy { config, reader: Arc::new(advice), cloner, made }
    }

    /// Reads refusals of HTTP and gRPC services, with [`HttpAdvice`].
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    #[must_use]
    pub fn http(self) -> RetryPolicy<HttpAdvice, K> {
        self.advice(HttpAdvice)
    }

    /// Sets the function that clones a request before the call. A request that cannot be cloned is
    /// not retried. Default is `Clone`.
    #[must_use]
    pub fn clone_with<C>(self, clone: C) -> RetryPolicy<A, C> {
        let Self { config, reader, cloner: _, made } = self;
        RetryPolicy { config, reader, cloner: Arc::new(clone), made }
    }
}

impl<Req, Res, E, A, K> Policy<Req, Res, E> for RetryPolicy<A, K>
where
    E: 'static,
    A: RetryAdvice<Req, Res, E>,
    K: CloneRequest<Req>,
{
    type Future = RetryDelay;

    fn retry(&mut self, request: &mut Req, result: &mut Result<Res, E>) -> Option<RetryDelay> {
        let rejected = result.as_ref().err().and_then(|error| rejected(error));
        let advice = match rejected {
            Some(rejected) => Some(Advice::from_rejected(rejected)),
            None => self.reader.advice(request, result.as_ref()),
        };
        let Some(advice) = advice else {
            if result.is_ok() {
                self.config.budget.deposit();
            }
            return None;
        };
        self.made = self.made.saturating_add(1);
        let delay = self.config.delay(advice, self.made, draw())?;
        self.config.budget.withdraw().then(|| RetryDelay::new(delay))
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        if self.config.max_attempts <= 1 {
            return None;
        }
        self.cloner.clone_request(request)
    }
}

impl Config {
    /// Returns the delay before the next attempt, if there should be one. `random` is from 0 to 1.
    fn delay(&self, advice: Advice, made: u32, random: f64) -> Option<Duration> {
        if made >= self.max_attempts {
            return None;
        }
        match advice {
            Advice::Never => None,
            Advice::After(after) => (after <= self.max_delay).then_some(after),
            Advice::Backoff => {
                let doubled = 2_u32.saturating_pow(made.saturating_sub(1));
                let longest = self.backoff.saturating_mul(doubled).min(self.max_delay);
                Some(longest.saturating_sub(longest.mul_f64(random / 2.0)))
            }
        }
    }
}

/// A clone shares the budget.
impl<A, K> Clone for RetryPolicy<A, K> {
    fn clone(&self) -> Self {
        let Self { config, reader, cloner, made } = self;
        let (reader, cloner) = (Arc::clone(reader), Arc::clone(cloner));
        Self { config: config.clone(), reader, cloner, made: *made }
    }
}

impl<A, K> fmt::Debug for RetryPolicy<A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, reader: _, cloner: _, made } = self;
        f.debug_struct("RetryPolicy")
            .field("max_attempts", &config.max_attempts)
            .field("max_delay", &config.max_delay)
            .field("backoff", &config.backoff)
            .field("made", made)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_time_is_obeyed_to_the_letter_or_not_at_all() {
        let config = RetryPolicy::new().max_delay(ms(100)).config;
        for (after, delay) in [(0, Some(0)), (70, Some(70)), (100, Some(100)), (101, None)] {
            let advice = Advice::After(ms(after));
            assert_eq!(config.delay(advice, 1, 0.7), delay.map(ms));
        }
        assert_eq!(config.delay(Advice::After(Duration::MAX), 1, 0.0), None);
        assert_eq!(config.delay(Advice::Never, 1, 0.0), None);
    }

    #[test]
    fn backoffs_double_up_to_the_longest_delay_and_are_spread() {
        let policy = RetryPolicy::new().backoff(ms(10)).max_delay(ms(50)).max_attempts(u32::MAX);
        let delay = |made, random| policy.config.delay(Advice::Backoff, made, random);
        for (made, longest) in [(1, 10), (2, 20), (3, 40), (4, 50), (100, 50)] {
            assert_eq!(delay(made, 0.0), Some(ms(longest)));
            assert_eq!(delay(made, 1.0), Some(ms(longest) / 2));
        }
        // Nothing overflows.
        let policy = policy.backoff(Duration::MAX).max_delay(Duration::MAX);
        assert_eq!(policy.config.delay(Advice::Backoff, 64, 0.0), Some(Duration::MAX));
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        for (attempts, retries) in [(0, 0), (1, 0), (3, 2)] {
            let config = RetryPolicy::new().max_attempts(attempts).config;
            let delays = (1..10).filter(|made| config.delay(Advice::Backoff, *made, 0.0).is_some());
            assert_eq!(delays.count(), retries, "{attempts}");
        }
    }
}
