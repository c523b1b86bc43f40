//! The floor: no more than a channel to a task and a oneshot back, which is what any queue that is
//! drained by a task of its own is made of. It has no limit, no inner and no errors.

use tokio::sync::{mpsc, oneshot};

use crate::{drive::Client, load::CAPACITY};

type Question = oneshot::Sender<()>;

#[derive(Clone)]
pub(crate) struct Bounded(mpsc::Sender<Question>);

impl Bounded {
    /// Spawns the task that answers, one question after the other.
    pub(crate) fn spawn() -> Self {
        let (sender, mut questions) = mpsc::channel::<Question>(CAPACITY);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let _ = question.send(());
            }
        });
        Self(sender)
    }
}

impl Client for Bounded {
    async fn call(&mut self) {
        let (question, answer) = oneshot::channel();
        self.0.send(question).await.expect("there is a task");
        answer.await.expect("answered");
    }
}

#[derive(Clone)]
pub(crate) struct Unbounded(mpsc::UnboundedSender<Question>);

impl Unbounded {
    /// Spawns the task that answers, as many questions at a time as there are.
    pub(crate) fn spawn() -> Self {
        let (sender, mut questions) = mpsc::unbounded_channel::<Question>();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(CAPACITY);
            while questions.recv_many(&mut batch, CAPACITY).await > 0 {
                for question in batch.drain(..) {
                    let _ = question.send(());
                }
            }
        });
        Self(sender)
    }
}

impl Client for Unbounded {
    async fn call(&mut self) {
        let (question, answer) = oneshot::channel();
        self.0.send(question).expect("there is a task");
        answer.await.expect("answered");
    }
}
