//! `teach`: shots of one class.

use fmlora_learner::ClassName;
use serde::Serialize;

use crate::cli::{Global, TeachArgs};
use crate::pictures::{Keep, intake, no_pictures};
use crate::report::{self, SkippedDto, TeachReport};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

/// What the command prints.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    report: TeachReport,
    skipped: Vec<SkippedDto>,
}

pub(super) fn teach(global: &Global, args: &TeachArgs) -> Result<(), EdgeError> {
    let name = ClassName::new(&args.class)?;
    let paths = folders::expand(&args.images)?;
    let mut session = Session::open(global, Access::Write)?;
    let taken = intake(&mut session, &paths, Keep::Features)?;
    report::warn_skipped(&taken.skipped);
    if taken.features.is_empty() {
        return Err(no_pictures(&name, &paths, &taken.skipped));
    }
    let shots = taken.features.into_iter().map(|(_, feature)| feature).collect();
    let report = session.teach_one(&name, shots)?;
    if global.json {
        return report::json(&Printed { report, skipped: report::skipped(&taken.skipped) });
    }
    report::line(format!(
        "taught {}: {} shots, {} in all",
        report.class, report.added, report.shots
    ))?;
    match &report.estimate {
        Some(estimate) => report::line(estimate.text()),
        None => {
            report::line("enough? teach a second class, and two shots of each, to get an estimate")
        }
    }
}
