//! `classes` and `status`: print the classes, the base, the device, the head and the updates.

use fmlora_learner::{Parity, UnknownTest};
use fmlora_models::{Hardware, Precision, variant_of};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::daemon::{InUseDto, QuarantinedDto, knowledge};
use crate::report::{self, EstimateDto};
use crate::store::Access;
use crate::update::{Phase, Record, TriedAgain, Updates};
use crate::{EdgeError, Session};

pub(super) fn classes(global: &Global) -> Result<(), EdgeError> {
    let session = Session::open(global, Access::Read)?;
    if global.json {
        return report::json(&knowledge::classes(&session));
    }
    if session.learner().classes().len() == 0 {
        return report::line("nothing was taught yet: fmlora-edge teach --class NAME IMAGE...");
    }
    for class in session.learner().classes() {
        let looks = match class.modes.len() {
            1 => String::new(),
            n => format!(", {n} different looks"),
        };
        report::line(format!("{}: {} shots{looks}", class.name, class.count()))?;
    }
    Ok(())
}

pub(super) fn run(global: &Global) -> Result<(), EdgeError> {
    let mut session = Session::open(global, Access::Read)?;
    let estimate = session.estimate()?.map(EstimateDto::new);
    let predictor = session.predictor()?.clone();
    let head = match predictor.shrinkage() {
        s if s < 1.0 => format!("lda, shrinkage {s}"),
        _ => "nearest mean".to_owned(),
    };
    let unknown = match predictor.unknown_test() {
        UnknownTest::Never => "off".to_owned(),
        UnknownTest::Radius { max_squared } => format!("radius {:.2}", max_squared.sqrt()),
        UnknownTest::Evidence { min } => format!("evidence {min:.2}"),
    };
    let journal = session.store().journal()?;
    let updates = Updates::peek(session.store())?;
    let engine = session.engine()?;
    let hardware = engine.hardware().clone();
    let parity = engine.parity();
    let precision = engine.precision();
    let refused = engine.refused().map(str::to_owned);
    let base = session.base();
    let shots: u64 = session.learner().classes().map(|c| u64::from(c.count())).sum();
    let network = variant_of(base.vit()).unwrap_or("unnamed");
    if global.json {
        return report::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": {
                "network": hardware.to_string(), "training": hardware.to_string(), "head": "cpu",
                "precision": precision,
                "refused": refused,
                "parity": parity.map(|p| json!({ "forward": p.forward, "training": p.training })),
            },
            "base": {
                "file": base.name(), "id": base.id.to_string(), "name": base.provenance().name,
                "network": network, "features": base.d_feature(),
            },
            "state": {
                "file": session.store().path().display().to_string(),
                "bytes": session.store().n_bytes(),
                "classes": session.learner().classes().len(),
                "shots": shots,
                "feature_space": session.store().feature_space_id().to_string(),
            },
            "update": updates.map(|(record, until)| updates_as_json(record, until)),
            "head": {
                "kind": head, "shrinkage": predictor.shrinkage(),
                "temperature": predictor.temperature(), "unknown": unknown,
            },
            "estimate": estimate,
            "undo": journal,
        }));
    }
    report::line(format!(
        "base    {} {} ({network}, {} numbers a feature)",
        base.provenance().name,
        base.name(),
        base.d_feature()
    ))?;
    report::line(format!("        id {}", base.id))?;
    report::line(format!("device  {hardware}: network and training"))?;
    if precision == Precision::F16 {
        report::line("        multiplies in f16, trains in f32")?;
    }
    if hardware != Hardware::Cpu {
        report::line("        cpu: pictures, statistics and head")?;
    }
    if let Some(parity) = parity {
        let Parity { forward, training } = parity;
        report::line(format!(
            "        differs from the processor by {forward:.0e} (features), {training:.0e} (losses)"
        ))?;
    }
    if let Some(why) = &refused {
        report::line(format!("        not used: {why}"))?;
    }
    report::line(format!(
        "state   {} ({} KiB)",
        session.store().path().display(),
        session.store().n_bytes().div_ceil(1024)
    ))?;
    report::line(format!("classes {} from {shots} shots", session.learner().classes().len()))?;
    report::line(format!("        features {}", session.store().feature_space_id()))?;
    report::line(format!("head    {head}, unknown by {unknown}"))?;
    if let Some(estimate) = &estimate {
        report::line(estimate.text())?;
    }
    if let Some((record, until)) = updates {
        print_updates(record, until)?;
    }
    match journal.first() {
        Some(last) => {
            report::line(format!("undo    {} operations, the last: {last}", journal.len()))
        }
        None => Ok(()),
    }
}

/// Returns the adapters in use and in quarantine as JSON.
fn updates_as_json(record: Record, until: Vec<TriedAgain>) -> Value {
    let in_use: Vec<InUseDto> = record.in_use.into_iter().map(InUseDto::of).collect();
    json!({
        "device": record.device,
        "phase": record.phase.name(),
        "why": why(&record.phase),
        "in_use": in_use,
        "can_roll_back": record.can_roll_back,
        "quarantine": QuarantinedDto::all(record.quarantine, until),
    })
}

fn print_updates(record: Record, until: Vec<TriedAgain>) -> Result<(), EdgeError> {
    report::line(format!("update  {}, this box is {}", record.phase.name(), record.device))?;
    if let Some(why) = why(&record.phase) {
        report::line(format!("        {why}"))?;
    }
    for used in record.in_use.into_iter().map(InUseDto::of) {
        report::line(format!("        in use: {used}"))?;
    }
    for refused in QuarantinedDto::all(record.quarantine, until) {
        report::line(format!("        {refused}"))?;
    }
    Ok(())
}

/// Reason for which the last adapter was refused or rolled back.
fn why(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::RolledBack { why } => Some(why),
        _ => None,
    }
}
