//! A call of the inner through the leveler, from a delivery to a result.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures::FutureExt;
use tower::{BoxError, Layer, Service};
use tower_load_leveling::{
    ClassifyRequest, ClassifyResponse, LoadLevel, LoadLevelLayer, error::Rejected,
};

use crate::{
    Codec, Delivery, EncodeAnswer, Judge, Verdict,
    answer::Answer,
    settle::{Settled, Settler},
};

/// The delay of a removed message, if the leveler gives no time to retry.
const OVERLOADED: Duration = Duration::from_millis(100);

/// The meaning of a call's result.
pub(crate) enum Ended {
    Judged {
        verdict: Verdict,
        /// The error of the inner.
        cause: Option<String>,
        /// For an asker, if the inner had a response.
        answer: Option<Answer>,
    },
    /// The leveler removed the request before it was started.
    Removed(Rejected),
}

/// How a call begins.
pub(crate) enum Started {
    Running(Pin<Box<dyn Future<Output = Ended> + Send>>),
    /// The leveler has no place. The message stays in hand.
    NoPlace,
    /// The bytes are no request.
    Undecodable(String),
}

/// Starts calls. Hides the types of codec, leveler, inner and judge.
pub(crate) trait Start: Send {
    fn start(&mut self, delivery: &Arc<Delivery>) -> Started;
}

pub(crate) struct Starter<Req, C, S, Q, R, J, A> {
    codec: C,
    service: LoadLevel<S, Q, R>,
    judge: Arc<J>,
    answers: Arc<A>,
    request: std::marker::PhantomData<fn(Req)>,
}

impl<Req, C, S, Q, R, J, A> Starter<Req, C, S, Q, R, J, A> {
    pub(crate) fn new(
        codec: C,
        layer: &LoadLevelLayer<Q, R>,
        inner: S,
        judge: J,
        answers: A,
    ) -> Self {
        let (service, judge, answers) = (layer.layer(inner), Arc::new(judge), Arc::new(answers));
        Self { codec, service, judge, answers, request: std::marker::PhantomData }
    }
}

impl<Req, C, S, Q, R, J, A> Start for Starter<Req, C, S, Q, R, J, A>
where
    Req: Send + 'static,
    C: Codec<Req>,
    S: Service<Req> + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    Q: ClassifyRequest<Req> + Send + Sync + 'static,
    R: ClassifyResponse<S::Response, S::Error> + Send + Sync + 'static,
    J: Judge<S::Response>,
    A: EncodeAnswer<S::Response>,
{
    fn start(&mut self, delivery: &Arc<Delivery>) -> Started {
        let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| self.codec.decode(delivery)));
        let request = match decoded {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => return Started::Undecodable(error.to_string()),
            Err(_) => return Started::Undecodable("the codec panicked".to_owned()),
        };
        let calling = AssertUnwindSafe(|| self.service.try_call(request));
        let call = match std::panic::catch_unwind(calling) {
            Ok(Ok(call)) => call,
            Ok(Err(_)) => return Started::NoPlace,
            Err(_) => return Started::Running(Box::pin(std::future::ready(panicked()))),
        };
        let (judge, delivery) = (Arc::clone(&self.judge), Arc::clone(delivery));
        let answers = Arc::clone(&self.answers);
        Started::Running(Box::pin(async move {
            let judged = async {
                let result = call.await;
                let cause = match &result {
                    Ok(_) => None,
                    Err(error) => match error.downcast_ref::<Rejected>() {
                        Some(rejected) => return Ended::Removed(rejected.clone()),
                        None => Some(error.to_string()),
                    },
                };
                let verdict = judge.judge(&delivery, result.as_ref());
                let wanted = delivery.wants_answer() && verdict == Verdict::Ack;
                let response = result.ok().filter(|_| wanted);
                let answer = response.map(|response| encoded(&*answers, &response));
                Ended::Judged { verdict, cause, answer }
            };
            AssertUnwindSafe(judged).catch_unwind().await.unwrap_or_else(|_| panicked())
        }))
    }
}

fn panicked() -> Ended {
    let cause = Some("the inner service panicked".to_owned());
    Ended::Judged { verdict: Verdict::Retry { after: None }, cause, answer: None }
}

/// The answer to an asker. The inner has done the request: a failure here is no failed attempt.
fn encoded<Response>(answers: &impl EncodeAnswer<Response>, response: &Response) -> Answer {
    let encoding = AssertUnwindSafe(|| answers.encode_answer(response));
    match std::panic::catch_unwind(encoding) {
        Ok(Ok(payload)) => Answer::Done(payload),
        Ok(Err(error)) => Answer::Unsent(error.to_string()),
        Err(_) => Answer::Unsent("the codec of the answers panicked".to_owned()),
    }
}

/// Settles a message by the end of a call.
pub(crate) async fn settle(settler: &Settler, delivery: &Delivery, ended: Ended) -> Settled {
    match ended {
        Ended::Removed(rejected) => {
            let after = rejected.retry_after().unwrap_or(OVERLOADED);
            settler.overloaded(delivery, after).await
        }
        Ended::Judged { verdict: Verdict::Ack, cause, answer } => {
            let failed = || Answer::Failed(cause.unwrap_or_default());
            settler.reply(delivery, answer.unwrap_or_else(failed)).await;
            settler.ack(delivery).await
        }
        Ended::Judged { verdict: Verdict::Retry { after }, cause, .. } => {
            let cause = cause.unwrap_or_else(|| "judged to be tried again".to_owned());
            settler.failed(delivery, after, &cause).await
        }
        Ended::Judged { verdict: Verdict::Bury, cause, .. } => {
            let cause = cause.unwrap_or_else(|| "judged to be buried".to_owned());
            settler.bury(delivery, &cause).await
        }
    }
}
