//! Takes messages from a [`Queue`], calls a service, and settles.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tower::{BoxError, Service};
use tower_load_leveling::{ClassifyRequest, ClassifyResponse, Handle, LoadLevelLayer};

use crate::{
    Answers, ByResult, Codec, Confirm, EncodeAnswer, Error, Judge, Late, Queue, Report,
    WorkerStats,
    call::{Start, Starter},
    control::Control,
    run::Run,
    settings::Settings,
    stats::Counters,
};

/// The settings of a [`Worker`]. Made by [`Queue::worker`].
#[derive(Debug)]
pub struct Builder<C, L = (), J = ByResult, A = ()> {
    queue: Queue,
    codec: C,
    leveler: L,
    judge: J,
    answers: A,
    settings: Settings,
}

/// Takes as many messages as the leveler can start, calls the inner service for each, and settles.
///
/// Does nothing until [`run_until`](Self::run_until) is polled.
pub struct Worker {
    queue: Queue,
    starter: Box<dyn Start>,
    leveler: Handle,
    settings: Settings,
    counters: Arc<Counters>,
    control: watch::Sender<Control>,
}

/// Observes and controls a [`Worker`]. Clones control the same worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    counters: Arc<Counters>,
    control: watch::Sender<Control>,
}

impl<C> Builder<C> {
    pub(crate) fn new(queue: Queue, codec: C) -> Self {
        let dead_letters = format!("{}-dead", queue.name());
        let settings = Settings {
            prefetch: None,
            max_attempts: 5,
            max_deliveries: 10,
            backoff: (Duration::from_millis(200), Duration::from_secs(60)),
            dead_letters,
            confirm: Confirm::Sent,
            give_up_after: None,
            drain_deadline: Duration::from_secs(30),
            late: Late::Ack,
        };
        Self { queue, codec, leveler: (), judge: ByResult, answers: (), settings }
    }
}

impl<C, L, J, A> Builder<C, L, J, A> {
    /// Sets the leveler whose limit decides how many messages this worker holds. The leveler may be
    /// shared with other services. Required.
    #[must_use]
    pub fn leveler<Q, R>(
        self,
        layer: LoadLevelLayer<Q, R>,
    ) -> Builder<C, LoadLevelLayer<Q, R>, J, A> {
        let Self { queue, codec, judge, answers, settings, .. } = self;
        Builder { queue, codec, leveler: layer, judge, answers, settings }
    }

    /// Sets how results settle messages. Default: [`ByResult`].
    #[must_use]
    pub fn judge<K>(self, judge: K) -> Builder<C, L, K, A> {
        let Self { queue, codec, leveler, answers, settings, .. } = self;
        Builder { queue, codec, leveler, judge, answers, settings }
    }

    /// Sets how responses become answers to an [`Asker`](crate::Asker). Default: none. An asker
    /// whose request a worker without it has done gets [`Error::Answer`].
    #[must_use]
    pub fn answers<K>(self, codec: K) -> Builder<C, L, J, Answers<K>> {
        let Self { queue, codec: requests, leveler, judge, settings, .. } = self;
        let answers = Answers::new(codec);
        Builder { queue, codec: requests, leveler, judge, answers, settings }
    }

    /// Sets the fate of a message after the deadline of the [`Asker`](crate::Asker), if no call has
    /// begun. Default: [`Late::Ack`].
    #[must_use]
    pub fn late(mut self, late: Late) -> Self {
        self.settings.late = late;
        self
    }

    /// Sets how many messages wait in the worker beyond the limit, to cover the way to the broker.
    /// 0 is legal. More: fewer pauses with short calls; less: more is left to other workers.
    /// Default: a quarter of the limit, at least 1.
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.settings.prefetch = Some(messages);
        self
    }

    /// Sets after which attempt an error buries the message. Default: 5, at least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u64) -> Self {
        self.settings.max_attempts = attempts.max(1);
        self
    }

    /// Sets the attempt above which a message is buried without a call, since the message may kill
    /// workers. Default: 10, and at least [`max_attempts`](Self::max_attempts).
    #[must_use]
    pub fn max_deliveries(mut self, deliveries: u64) -> Self {
        self.settings.max_deliveries = deliveries.max(1);
        self
    }

    /// Sets the delay before the second attempt, and the longest delay. The delay doubles with each
    /// attempt, and is spread by 20 % either way. Default: 200 ms and 1 minute.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.backoff = (first, longest.max(first));
        self
    }

    /// Sets the stream of buried messages. The worker creates a missing stream. Default:
    /// `<queue>-dead`.
    #[must_use]
    pub fn dead_letters(mut self, stream: impl Into<String>) -> Self {
        self.settings.dead_letters = stream.into();
        self
    }

    /// Sets whether an ack waits for the broker. Default: [`Confirm::Sent`].
    #[must_use]
    pub fn confirm(mut self, confirm: Confirm) -> Self {
        self.settings.confirm = confirm;
        self
    }

    /// Sets after how long in hand a message is no longer reported as worked on, so that another
    /// worker gets it after [`ack_wait`](crate::queue::Builder::ack_wait). The call itself goes on:
    /// use a timeout to end a call. Needed where an inner can hang. Default: never.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.settings.give_up_after = Some(time);
        self
    }

    /// Sets how long [`run_until`](Worker::run_until) waits for running calls after the shutdown.
    /// Default: 30 s. Kubernetes kills a process `terminationGracePeriodSeconds` after SIGTERM: set
    /// the period to more.
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.settings.drain_deadline = deadline;
        self
    }
}

impl<C, Q, R, J, A> Builder<C, LoadLevelLayer<Q, R>, J, A> {
    /// Makes the worker around a service. Every request goes through the leveler first, so the
    /// service needs no further leveler.
    pub fn service<Req, S>(self, inner: S) -> Worker
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
        let Self { queue, codec, leveler, judge, answers, mut settings } = self;
        settings.max_deliveries = settings.max_deliveries.max(settings.max_attempts);
        let starter = Starter::new(codec, &leveler, inner, judge, answers);
        Worker {
            queue,
            leveler: leveler.handle(),
            starter: Box::new(starter),
            settings,
            counters: Arc::default(),
            control: watch::Sender::default(),
        }
    }
}

impl Worker {
    /// Returns a handle to observe and control the worker.
    #[must_use]
    pub fn handle(&self) -> WorkerHandle {
        let (counters, control) = (Arc::clone(&self.counters), self.control.clone());
        WorkerHandle { counters, control }
    }

    /// Works until `shutdown` resolves or [`WorkerHandle::drain`] is called, then drains: asks for
    /// no more, gives unstarted messages back, and waits for running calls. The broker may
    /// come and go meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if the client was closed for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is a crash of the worker: other workers get the messages in hand after
    /// [`ack_wait`](crate::queue::Builder::ack_wait).
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, Error> {
        let Self { queue, starter, leveler, settings, counters, control } = self;
        let drain_deadline = settings.drain_deadline;
        let asked = async {
            shutdown.await;
            control.send_modify(|control| {
                control.drain.get_or_insert(Instant::now() + drain_deadline);
            });
            std::future::pending::<()>().await;
        };
        let running = Run::new(queue, starter, leveler, settings, counters, control.subscribe());
        let done = tokio::select! {
            done = running.run() => done,
            () = asked => Err(Error::Closed),
        };
        control.send_modify(|control| control.end = Some(done.as_ref().ok().copied()));
        done
    }
}

impl WorkerHandle {
    /// Returns the books of the worker.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.counters.read()
    }

    /// Stops starting calls and asking for messages. Running calls finish; waiting messages
    /// stay in hand.
    pub fn pause(&self) {
        self.control.send_modify(|control| control.paused = true);
    }

    /// Resumes after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.control.send_modify(|control| control.paused = false);
    }

    /// Ends the worker: the worker asks for no more, gives unstarted messages back, and waits for
    /// running calls until the deadline. The rest is left to
    /// [`ack_wait`](crate::queue::Builder::ack_wait).
    ///
    /// `None` if the worker was dropped, or the connection was closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on if the future is dropped.
    pub async fn drain(&self, deadline: Duration) -> Option<Report> {
        let by = Instant::now() + deadline;
        self.control.send_modify(|control| {
            control.drain = Some(control.drain.map_or(by, |set| set.min(by)));
        });
        let mut changes = self.control.subscribe();
        // A dropped worker tells nobody.
        let ended = changes.wait_for(|control| control.end.is_some());
        let ended = tokio::time::timeout(deadline + Duration::from_secs(5), ended).await;
        ended.ok()?.ok()?.end.flatten()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queue, settings, counters, .. } = self;
        f.debug_struct("Worker")
            .field("queue", &queue.name())
            .field("settings", settings)
            .field("counters", counters)
            .finish_non_exhaustive()
    }
}
