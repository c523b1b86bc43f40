use super::exchange::Exchange;

/// Answers the caller if dropped before [`end`](Self::end). The code in between may panic, for
/// example in a subscriber of `tracing`.
#[derive(Debug)]
pub(super) struct Unanswered<'a, Q, W, A> {
    /// `None` once ended.
    exchange: Option<&'a Exchange<Q, W, A>>,
    lost: fn() -> A,
}

impl<'a, Q, W, A> Unanswered<'a, Q, W, A> {
    pub(super) fn new(exchange: &'a Exchange<Q, W, A>, lost: fn() -> A) -> Self {
        Self { exchange: Some(exchange), lost }
    }

    /// Ends the guard: the request is answered, put back, or runs.
    pub(super) fn end(mut self) {
        self.exchange = None;
    }
}

impl<Q, W, A> Drop for Unanswered<'_, Q, W, A> {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange {
            drop(exchange.answer((self.lost)()));
        }
    }
}
