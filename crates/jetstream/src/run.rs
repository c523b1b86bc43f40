//! The one task of a worker.

use std::{
    collections::BinaryHeap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use async_nats::jetstream::{
    Message,
    consumer::{Consumer, pull},
    stream::Stream,
};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior},
};
use tower_load_leveling::Handle;
use tracing::{debug, warn};

use crate::{
    Delivery, Error, Late, Queue, Report,
    answer::is_late,
    call::{Start, Started, settle},
    control::Control,
    credit::{Credit, default_prefetch},
    debris::{Acked, clean},
    hand::Hand,
    pull::{Generation, Pulled},
    settings::Settings,
    settle::{Settled, Settler, until_due},
    stats::Counters,
    work::{Boxed, Settling, Work, run, work},
};

/// How often a worker looks at the limit, the connection, and due signs.
const TICK: Duration = Duration::from_millis(50);

/// How long a worker waits after a failed attempt to reach the consumer.
const AGAIN: Duration = Duration::from_millis(250);

/// How many events are handled before the worker looks at the clock and the controls again.
const BATCH: usize = 64;

pub(crate) struct Run {
    queue: Queue,
    starter: Box<dyn Start>,
    leveler: Handle,
    settings: Settings,
    counters: Arc<Counters>,
    control: watch::Receiver<Control>,
    settler: Arc<Settler>,
    hand: Hand,
    /// Calls, each with the settling of a message.
    calls: Settling,
    /// Messages to settle without a call. No place of the leveler is held.
    uncalled: Settling,
    pulls: Option<Generation>,
    opening: Option<Boxed<Opened>>,
    telling: Option<Boxed<()>>,
    sweeping: Option<Boxed<()>>,
    /// The latest acks of the worker.
    acked: Arc<Acked>,
    /// Whether the leveler refused a message in spite of room. The worker asks again later.
    refused: bool,
}

type Opened = Result<(Generation, Stream, Vec<Consumer<pull::Config>>), Error>;

impl Run {
    pub(crate) fn new(
        queue: Queue,
        starter: Box<dyn Start>,
        leveler: Handle,
        settings: Settings,
        counters: Arc<Counters>,
        control: watch::Receiver<Control>,
    ) -> Self {
        let limit = leveler.limit();
        let own = limit.saturating_add(settings.prefetch.unwrap_or(default_prefetch(limit)));
        let settler = Settler {
            client: queue.client(),
            context: queue.context().clone(),
            stream: queue.name().to_owned(),
            dead: settings.dead_letters.clone(),
            confirm: settings.confirm,
            in_order: queue.partitions().is_some(),
            max_attempts: settings.max_attempts,
            max_deliveries: settings.max_deliveries,
            backoff: settings.backoff,
            // A quarter of the worker's share of the fleet's limit. The share is not known: at
            // least limit + prefetch, and a sixteenth of the limit.
            most_parked: (own / 4).max(queue.fleet_limit() / 64).max(1).min(queue.fleet_limit()),
            parked: Mutex::new(BinaryHeap::new()),
            counters: Arc::clone(&counters),
        };
        Self {
            settler: Arc::new(settler),
            queue,
            starter,
            leveler,
            settings,
            counters,
            control,
            hand: Hand::default(),
            calls: FuturesUnordered::new(),
            uncalled: FuturesUnordered::new(),
            pulls: None,
            opening: None,
            telling: None,
            sweeping: None,
            acked: Arc::default(),
            refused: false,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Report, Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.open(Duration::ZERO);
        loop {
            if let Some(deadline) = self.drains() {
                return Ok(self.drain(deadline, &mut tick).await);
            }
            self.start_waiting();
            self.ask().await;
            self.event(&mut tick).await?;
            for _ in 0..BATCH {
                self.start_waiting();
                match self.work().now_or_never() {
                    Some(more) => more?,
                    None => break,
                }
            }
        }
    }

    fn drains(&self) -> Option<Instant> {
        self.control.borrow().drain
    }

    fn is_paused(&self) -> bool {
        self.control.borrow().paused
    }

    /// Waits for one event and handles the event.
    async fn event(&mut self, tick: &mut Interval) -> Result<(), Error> {
        let leveler = self.leveler.clone();
        // Made before the worker looks whether there is room.
        let room = leveler.changed();
        let wants_room = self.hand.waits() && !self.is_paused() && self.has_turn();
        if wants_room && self.leveler.room() > 0 {
            return Ok(());
        }
        let Self { control, opening, telling, sweeping, calls, uncalled, pulls, .. } = self;
        tokio::select! {
            biased;
            // First, since work may come faster than the worker takes messages.
            _ = tick.tick() => self.tick().await,
            _ = control.changed() => {}
            opened = run(opening) => self.opened(opened),
            () = run(telling) => {}
            () = run(sweeping) => {}
            done = work(calls, uncalled, pulls) => {
                return self.worked(done);
            }
            () = room, if wants_room => {}
        }
        Ok(())
    }

    /// The part of [`event`](Self::event) for crowds. Cancel safe.
    async fn work(&mut self) -> Result<(), Error> {
        let done = work(&mut self.calls, &mut self.uncalled, &mut self.pulls).await;
        self.worked(done)
    }

    fn worked(&mut self, done: Work) -> Result<(), Error> {
        match done {
            Work::Settled(sequence, settled) => self.settled(sequence, settled),
            Work::Pulled(Pulled::Message(message)) => self.take(*message),
            Work::Pulled(Pulled::Status) => {}
            Work::Pulled(Pulled::Ended) => return Err(Error::Closed),
        }
        Ok(())
    }

    async fn tick(&mut self) {
        self.refused = false;
        self.tell();
        if self.pulls.as_ref().is_some_and(Generation::is_stale) {
            if let Some(stale) = self.pulls.take() {
                debug!("the broker may have forgotten what was asked for: asking again");
                for message in stale.end().await {
                    self.take(message);
                }
            }
            self.open(Duration::ZERO);
        }
    }

    /// Starts a new generation.
    fn open(&mut self, after: Duration) {
        let (queue, dead) = (self.queue.clone(), self.settings.dead_letters.clone());
        self.opening = Some(Box::pin(async move {
            tokio::time::sleep(after).await;
            let (stream, consumers) = queue.open().await?;
            queue.create_dead_letters(&dead).await?;
            let in_order = queue.partitions().is_some();
            let generation = Generation::open(queue.client(), consumers.clone(), in_order).await;
            Ok((generation.ok_or(Error::Away)?, stream, consumers))
        }));
    }

    fn opened(&mut self, opened: Opened) {
        match opened {
            Ok((generation, stream, consumers)) => {
                let generations = self.counters.generations.fetch_add(1, Relaxed);
                self.pulls = Some(generation);
                // The first generation sweeps too: all workers may have died with the broker.
                debug!(generations, "asking for messages");
                let (counters, acked) = (Arc::clone(&self.counters), Arc::clone(&self.acked));
                let queue = self.queue.clone();
                self.sweeping = Some(Box::pin(async move {
                    clean(&queue, &stream, consumers, &acked, &counters).await;
                }));
            }
            Err(error) => {
                warn!(error = %error, source = ?std::error::Error::source(&error),
                    "the queue cannot be reached: trying again");
                self.open(AGAIN);
            }
        }
    }

    fn prefetch(&self) -> usize {
        self.settings.prefetch.unwrap_or_else(|| default_prefetch(self.leveler.limit()))
    }

    /// Asks for messages, as many as the credit.
    async fn ask(&mut self) {
        let (paused, prefetch) = (self.is_paused(), self.prefetch());
        let Some(pulls) = self.pulls.as_mut() else {
            self.counters.asked_for.store(0, Relaxed);
            return;
        };
        let credit = Credit {
            limit: self.leveler.limit(),
            prefetch,
            in_hand: self.hand.len(),
            asked_for: pulls.asked_for(),
        };
        let messages = if pulls.asks_for_one() { credit.left() } else { credit.to_ask() };
        if messages > 0 && !paused && !self.leveler.is_closed() && !pulls.is_stale() {
            let sent = pulls.ask(messages, credit.most()).await;
            self.counters.pulls.fetch_add(sent, Relaxed);
        }
        self.counters.asked_for.store(pulls.asked_for() as u64, Relaxed);
    }

    /// Takes a message into the hand.
    fn take(&mut self, message: async_nats::Message) {
        let message = Message { message, context: self.queue.context().clone() };
        let Some(delivery) = Delivery::read(message) else {
            warn!("a message that no consumer delivered was ignored");
            return;
        };
        self.counters.delivered.fetch_add(1, Relaxed);
        if !self.hand.take(delivery) {
            // The message is in hand already, and will be settled.
            self.counters.repeated.fetch_add(1, Relaxed);
        }
        let in_hand = self.hand.len() as u64;
        self.counters.in_hand.store(in_hand, Relaxed);
        self.counters.most_in_hand.fetch_max(in_hand, Relaxed);
    }

    /// Whether the leveler is given one more message now. An unstarted message stays here, and
    /// can be given back. An adaptive limit gets one more, to see the demand.
    fn has_turn(&self) -> bool {
        let extra = usize::from(self.leveler.is_adaptive());
        !self.refused && self.calls.len() < self.leveler.limit().saturating_add(extra)
    }

    fn start_waiting(&mut self) {
        while self.hand.waits() && !self.is_paused() && self.has_turn() && self.leveler.room() > 0 {
            let Some(delivery) = self.hand.next_waiting() else { return };
            let (settler, sequence) = (Arc::clone(&self.settler), delivery.sequence());
            if delivery.attempt() > self.settings.max_deliveries {
                self.uncalled.push(Box::pin(async move {
                    let cause = "delivered too often: its workers may die of it";
                    (sequence, settler.bury(&delivery, cause).await)
                }));
                continue;
            }
            if let Some(left) = until_due(&delivery) {
                self.uncalled.push(Box::pin(async move {
                    (sequence, settler.too_early(&delivery, left).await)
                }));
                continue;
            }
            if self.settings.late != Late::Call && is_late(&delivery) {
                let late = self.settings.late;
                self.uncalled
                    .push(Box::pin(async move { (sequence, settler.late(&delivery, late).await) }));
                continue;
            }
            match self.starter.start(&delivery) {
                Started::Running(call) => self.calls.push(Box::pin(async move {
                    let settled = settle(&settler, &delivery, call.await).await;
                    (sequence, settled)
                })),
                Started::NoPlace => {
                    self.hand.put_back(sequence);
                    self.refused = true;
                    return;
                }
                Started::Undecodable(cause) => self.uncalled.push(Box::pin(async move {
                    (sequence, settler.bury(&delivery, &cause).await)
                })),
            }
        }
    }

    fn settled(&mut self, sequence: u64, settled: Settled) {
        self.refused = false;
        if settled == Settled::Kept {
            self.hand.put_back(sequence);
            return;
        }
        self.settler.count(settled);
        if let Some(delivery) = self.hand.settled(sequence) {
            if settled != Settled::Naked {
                self.acked.add(sequence, delivery.stored_at());
            }
            if let Some(pulls) = &mut self.pulls {
                pulls.settled(&delivery);
            }
        }
        self.counters.in_hand.store(self.hand.len() as u64, Relaxed);
    }

    /// Tells the broker of the messages in hand.
    fn tell(&mut self) {
        if self.telling.is_some() {
            return;
        }
        let every = self.queue.ack_wait() / 3;
        let due = self.hand.due(every.saturating_sub(TICK), self.settings.give_up_after);
        if due.is_empty() {
            return;
        }
        let (settler, counters) = (Arc::clone(&self.settler), Arc::clone(&self.counters));
        self.telling = Some(Box::pin(async move {
            for delivery in due {
                settler.progress(&delivery).await;
                counters.progress.fetch_add(1, Relaxed);
            }
        }));
    }

    /// Gives unstarted messages back, and waits for running calls until the deadline.
    async fn drain(mut self, deadline: Instant, tick: &mut Interval) -> Report {
        self.opening = None;
        if let Some(pulls) = self.pulls.take() {
            for message in pulls.end().await {
                self.take(message);
            }
        }
        let mut deadline = deadline;
        while self.hand.len() > 0 {
            while let Some(delivery) = self.hand.next_waiting() {
                let settler = Arc::clone(&self.settler);
                self.uncalled.push(Box::pin(async move {
                    (delivery.sequence(), settler.given_back(&delivery).await)
                }));
            }
            let end = tokio::time::sleep_until(deadline);
            tokio::select! {
                biased;
                Some((sequence, settled)) = self.calls.next(), if !self.calls.is_empty() => {
                    self.settled(sequence, settled);
                }
                Some((sequence, settled)) = self.uncalled.next(), if !self.uncalled.is_empty() => {
                    self.settled(sequence, settled);
                }
                () = run(&mut self.telling) => {}
                // An earlier deadline may have been set.
                Ok(()) = self.control.changed() => deadline = self.drains().unwrap_or(deadline),
                _ = tick.tick() => self.tell(),
                () = end => break,
            }
        }
        // The acks are in the client's buffer.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.settler.client.flush()).await;
        self.counters.asked_for.store(0, Relaxed);
        Report { stats: self.counters.read(), drained: self.hand.len() == 0 }
    }
}
