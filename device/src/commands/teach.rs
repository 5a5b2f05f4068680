//! `teach`: shots of one class.

use fmlora_learner::{ClassName, OperationKind};
use serde::Serialize;

use crate::cli::{Global, TeachArgs};
use crate::pictures::{intake, no_pictures};
use crate::report::{self, EstimateDto, SkippedDto};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

#[derive(Debug, Serialize)]
struct TeachReport {
    class: String,
    added: usize,
    shots: u32,
    skipped: Vec<SkippedDto>,
    estimate: Option<EstimateDto>,
}

pub(super) fn teach(global: &Global, args: &TeachArgs) -> Result<(), EdgeError> {
    let name = ClassName::new(&args.class)?;
    let paths = folders::expand(&args.images)?;
    let mut session = Session::open(global, Access::Write)?;
    let taken = intake(session.engine()?, &paths)?;
    report::warn_skipped(&taken.skipped);
    if taken.features.is_empty() {
        return Err(no_pictures(&name, &paths, &taken.skipped));
    }
    let added = taken.features.len();
    let shots = taken.features.into_iter().map(|(_, feature)| feature).collect();
    let done = session.teach(OperationKind::Teach, &[(name.clone(), shots)])?;
    let class = session.learner().class(&name)?;
    let report = TeachReport {
        class: class.name.to_string(),
        added,
        shots: class.count(),
        skipped: report::skipped(&taken.skipped),
        estimate: done.head.estimate.as_ref().map(EstimateDto::new),
    };
    if global.json {
        return report::json(&report);
    }
    report::line(format!("taught {}: {added} shots, {} in all", report.class, report.shots))?;
    match &report.estimate {
        Some(estimate) => report::line(estimate.text()),
        None => {
            report::line("enough? teach a second class, and two shots of each, to get an estimate")
        }
    }
}
