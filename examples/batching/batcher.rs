//! The inner of the example: a service that does many requests in one call. To be copied: it needs
//! the crates futures, tokio (rt, sync) and tower.

use std::{
    fmt,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tower::{BoxError, Service};

type Item<Req, Res> = (Req, oneshot::Sender<Result<Res, BoxError>>);

/// Gathers calls, and hands all that have come to one function. Its clones gather together.
///
/// A call that comes while nothing runs goes at once and alone. Those that come while a batch runs
/// make up the next one. So batches are as large as the load asks for, and nobody waits for a batch
/// to fill. The channel has no bound of its own: the limit of the leveler in front is the bound.
pub(crate) struct Batcher<Req, Res> {
    sender: mpsc::UnboundedSender<Item<Req, Res>>,
}

impl<Req: Send + 'static, Res: Send + 'static> Batcher<Req, Res> {
    /// Makes batches of up to `at_most` requests for `work`, one after the other. It returns one
    /// answer for each request, in their order; an error is told to all callers of the batch.
    ///
    /// # Panics
    ///
    /// Panics if called outside of a tokio runtime.
    pub(crate) fn new<W, F, E>(at_most: usize, work: W) -> Self
    where
        W: Fn(Vec<Req>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<Res>, E>> + Send,
        E: fmt::Display + Send,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Item<Req, Res>>();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(at_most);
            // Ends when the last clone of the service is gone.
            while receiver.recv_many(&mut batch, at_most).await > 0 {
                let alive = batch.drain(..).filter(|(_, caller)| !caller.is_closed());
                let (requests, callers): (Vec<_>, Vec<_>) = alive.unzip();
                if requests.is_empty() {
                    continue;
                }
                match work(requests).await {
                    Ok(answers) => {
                        for (caller, answer) in callers.into_iter().zip(answers) {
                            // A caller that has gone wants no answer.
                            let _ = caller.send(Ok(answer));
                        }
                    }
                    Err(error) => {
                        for caller in callers {
                            let _ = caller.send(Err(error.to_string().into()));
                        }
                    }
                }
            }
        });
        Self { sender }
    }
}

impl<Req, Res> Clone for Batcher<Req, Res> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<Req: Send + 'static, Res: Send + 'static> Service<Req> for Batcher<Req, Res> {
    type Response = Res;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Res, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (caller, answer) = oneshot::channel();
        // If `work` has panicked, the channel is closed, and the answer is an error.
        let _ = self.sender.send((request, caller));
        Box::pin(async move { answer.await? })
    }
}
