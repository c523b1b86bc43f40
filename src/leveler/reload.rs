//! The settings of a running leveler: the present ones, and changes.

use super::{core::Core, pace::Pacing, settings::Given};
use crate::{
    config::Config,
    error::BuildError,
    settings::{Adaptive, AlgorithmName, Concurrency, DelayTarget, Settings},
};

/// Returns the settings in force. For a switched-off leveler, the given settings.
pub(crate) fn settings(core: &Core) -> Settings {
    if let Some(given) = &core.settings.switched_off {
        return Settings { enabled: false, ..given_settings(given) };
    }
    let given = given_settings(&core.settings);
    let Pacing { rate, burst } = core.pacing();
    let admission = &core.admission;
    let found = given.concurrency.filter(|_| core.limiter.is_adaptive());
    let limit = || Concurrency::Fixed(admission.limit());
    Settings {
        capacity: admission.capacity(),
        concurrency: Some(found.unwrap_or_else(limit)),
        max_wait: admission.max_wait.get().get(),
        bypass_limit: admission.bypass_limit(),
        flow_limit: admission.flow_limit.get(),
        rate,
        rate_burst: burst,
        ..given
    }
}

/// Returns the settings given to the builder.
fn given_settings(given: &Given) -> Settings {
    let Given { name, adaptive, line, overflow, abandon, execution, .. } = given;
    let delay = |target: Option<_>| target.map_or(DelayTarget::Auto, DelayTarget::Wait);
    let limit = || Concurrency::Fixed(given.limit as usize);
    Settings {
        enabled: true,
        name: (**name).to_owned(),
        capacity: given.capacity,
        concurrency: Some(adaptive.clone().map_or_else(limit, Concurrency::Adaptive)),
        max_wait: given.max_wait,
        overflow: *overflow,
        order: line.order,
        lifo_after: line.lifo_after,
        controlled_delay: line.delay.map(delay),
        guaranteed_share: line.guaranteed_share,
        exact_flows: line.dedicated_queues,
        watch_flows: given.watch_flows,
        bypass_limit: given.bypass_limit,
        flow_limit: line.flow_limit,
        rate: given.pacing.rate,
        rate_burst: given.pacing.burst,
        abandon: *abandon,
        execution: *execution,
    }
}

/// Applies the settings that a running leveler can change. Returns the names of the changed
/// settings that stay.
pub(crate) fn apply(core: &Core, to: &Settings) -> Result<Vec<&'static str>, BuildError> {
    let is_same_algorithm = is_same_algorithm(core, to);
    check(to, is_same_algorithm)?;
    if core.settings.is_switched_off() {
        let now = settings(core);
        return Ok(differences(&now, to).chain(live_differences(&now, to)).collect());
    }
    core.admission.set_capacity(to.capacity);
    core.admission.max_wait.set(to.max_wait);
    core.admission.set_bypass_limit(to.bypass_limit);
    if core.admission.flow_limit.get() != to.flow_limit {
        core.set_flow_limit(to.flow_limit);
    }
    let pacing = Pacing { rate: to.rate, burst: to.rate_burst };
    if pacing != core.pacing() {
        core.set_pacing(|_| pacing);
    }
    match to.concurrency {
        Some(Concurrency::Fixed(limit)) => core.set_limit(limit),
        Some(Concurrency::Adaptive(_)) if is_same_algorithm => {
            core.resume_adaptive();
        }
        _ => {}
    }
    Ok(differences(&settings(core), to).collect())
}

/// Returns whether the leveler has the algorithm named by `to`, with the same parameters.
fn is_same_algorithm(core: &Core, to: &Settings) -> bool {
    let given = core.settings.switched_off.as_deref().unwrap_or(&core.settings);
    match (&given.adaptive, &to.concurrency) {
        (Some(now), Some(Concurrency::Adaptive(to))) => is_same(now, to),
        _ => false,
    }
}

/// Returns whether `to` makes the algorithm `now`. The parameters of `now` are written out in full.
fn is_same(now: &Adaptive, to: &Adaptive) -> bool {
    now == to || to.build().is_ok_and(|(to, _)| *now == to)
}

fn check(settings: &Settings, is_same_algorithm: bool) -> Result<(), BuildError> {
    let mut settings = settings.clone();
    if is_same_algorithm && settings.concurrency == Some(AlgorithmName::Custom.into()) {
        // Cannot be loaded, and need not be.
        settings.concurrency = Some(Adaptive::new(AlgorithmName::Bdp).into());
    }
    Config::from(settings).check().map(drop)
}

/// Returns the names of the changed settings that need a new leveler.
fn differences(now: &Settings, to: &Settings) -> impl Iterator<Item = &'static str> + use<> {
    let limits = match (&now.concurrency, &to.concurrency) {
        (Some(Concurrency::Adaptive(now)), Some(Concurrency::Adaptive(to))) => !is_same(now, to),
        (now, to) => now != to,
    };
    let all = [
        ("enabled", now.enabled != to.enabled),
        ("name", now.name != to.name),
        ("concurrency", limits),
        ("overflow", now.overflow != to.overflow),
        ("order", now.order != to.order),
        ("lifo_after", now.lifo_after != to.lifo_after),
        ("controlled_delay", now.controlled_delay != to.controlled_delay),
        ("guaranteed_share", now.guaranteed_share != to.guaranteed_share),
        ("exact_flows", now.exact_flows != to.exact_flows),
        ("watch_flows", now.watch_flows != to.watch_flows),
        ("abandon", now.abandon != to.abandon),
        ("execution", now.execution != to.execution),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}

/// Returns the names of the changed settings that a running leveler can change.
fn live_differences(now: &Settings, to: &Settings) -> impl Iterator<Item = &'static str> + use<> {
    let all = [
        ("capacity", now.capacity != to.capacity),
        ("max_wait", now.max_wait != to.max_wait),
        ("bypass_limit", now.bypass_limit != to.bypass_limit),
        ("flow_limit", now.flow_limit != to.flow_limit),
        ("rate", now.rate != to.rate),
        ("rate_burst", now.rate_burst != to.rate_burst),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}
