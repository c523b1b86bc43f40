//! The settings of a running leveler: as they are, and as they are to be.

use super::{core::Core, pace::Pacing, settings::Given};
use crate::{
    config::Config,
    error::BuildError,
    settings::{Adaptive, AlgorithmName, Concurrency, DelayTarget, Settings},
};

/// Returns the settings in force.
pub(crate) fn settings(core: &Core) -> Settings {
    let Given { name, adaptive, line, overflow, abandon, execution, .. } = &core.settings;
    let Pacing { rate, burst } = core.pacing();
    let admission = &core.admission;
    let found = adaptive.clone().filter(|_| core.limiter.is_adaptive());
    let limit = || Concurrency::Fixed(admission.limit());
    let delay = |target: Option<_>| target.map_or(DelayTarget::Auto, DelayTarget::Wait);
    Settings {
        name: (**name).to_owned(),
        capacity: admission.capacity(),
        concurrency: Some(found.map_or_else(limit, Concurrency::Adaptive)),
        max_wait: admission.max_wait.get().get(),
        overflow: *overflow,
        order: line.order,
        lifo_after: line.lifo_after,
        controlled_delay: line.delay.map(delay),
        guaranteed_share: line.guaranteed_share,
        exact_flows: line.dedicated_queues,
        bypass_limit: admission.bypass_limit(),
        rate,
        rate_burst: burst,
        abandon: *abandon,
        execution: *execution,
    }
}

/// Applies what a running leveler can change. Returns the names of the settings that differ and
/// stay.
pub(crate) fn apply(core: &Core, to: &Settings) -> Result<Vec<&'static str>, BuildError> {
    let is_same_algorithm = is_same_algorithm(core, to);
    check(to, is_same_algorithm)?;
    core.admission.set_capacity(to.capacity);
    core.admission.max_wait.set(to.max_wait);
    core.admission.set_bypass_limit(to.bypass_limit);
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
    Ok(differences(&settings(core), to))
}

/// Returns whether the leveler has the algorithm that `to` names, with the same parameters.
fn is_same_algorithm(core: &Core, to: &Settings) -> bool {
    match (&core.settings.adaptive, &to.concurrency) {
        (Some(now), Some(Concurrency::Adaptive(to))) => is_same(now, to),
        _ => false,
    }
}

/// Returns whether `to` makes the algorithm `now`, whose parameters are written out in full.
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

/// Returns the names of the settings that differ.
fn differences(now: &Settings, to: &Settings) -> Vec<&'static str> {
    let limits = match (&now.concurrency, &to.concurrency) {
        (Some(Concurrency::Adaptive(now)), Some(Concurrency::Adaptive(to))) => !is_same(now, to),
        (now, to) => now != to,
    };
    let all = [
        ("name", now.name != to.name),
        ("concurrency", limits),
        ("overflow", now.overflow != to.overflow),
        ("order", now.order != to.order),
        ("lifo_after", now.lifo_after != to.lifo_after),
        ("controlled_delay", now.controlled_delay != to.controlled_delay),
        ("guaranteed_share", now.guaranteed_share != to.guaranteed_share),
        ("exact_flows", now.exact_flows != to.exact_flows),
        ("abandon", now.abandon != to.abandon),
        ("execution", now.execution != to.execution),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
