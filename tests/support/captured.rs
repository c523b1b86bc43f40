//! The events of the crate, as a subscriber gets them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{
    Level,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::layer::SubscriberExt;

/// The level of an event, and its fields with their values.
pub type Event = (Level, BTreeMap<&'static str, String>);

/// Remembers events with their fields, and which spans have been closed.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    events: Vec<Event>,
    closed: Vec<&'static str>,
}

impl Captured {
    pub fn init() -> (DefaultGuard, Self) {
        let captured = Self::default();
        let all = tracing_subscriber::registry().with(captured.clone());
        (super::scoped::subscriber(all), captured)
    }

    /// Returns all events so far.
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().expect("not poisoned").events.clone()
    }

    pub fn events(&self, message: &str) -> Vec<Event> {
        let state = self.0.lock().expect("not poisoned");
        state.events.iter().filter(|event| event.1["message"] == message).cloned().collect()
    }

    pub fn events_at(&self, level: Level) -> Vec<String> {
        let state = self.0.lock().expect("not poisoned");
        let at_level = state.events.iter().filter(|event| event.0 == level);
        at_level.map(|event| event.1["message"].clone()).collect()
    }

    pub fn closed(&self, span: &str) -> bool {
        self.0.lock().expect("not poisoned").closed.contains(&span)
    }
}

impl<S> tracing_subscriber::Layer<S> for Captured
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_event(
        &self,
        event: &tracing::Event<'_>,
        _ctx: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if event.metadata().target().starts_with("tower_load_leveling") {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let mut state = self.0.lock().expect("not poisoned");
            state.events.push((*event.metadata().level(), fields.0));
        }
    }

    fn on_close(&self, id: tracing::span::Id, ctx: tracing_subscriber::layer::Context<'_, S>) {
        if let Some(span) = ctx.span(&id) {
            self.0.lock().expect("not poisoned").closed.push(span.name());
        }
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
