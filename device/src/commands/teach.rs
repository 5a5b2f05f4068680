//! `teach`: teaches shots of one class.

use fmlora_learner::{ClassName, Shots};
use fmlora_models::PictureFolder;
use serde::Serialize;

use crate::cli::{Global, TeachArgs};
use crate::pictures::{Keep, intake, no_pictures};
use crate::report::{self, LeftOutDto, SkippedDto, TeachReport};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

/// Output of the command.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    report: TeachReport,
    skipped: Vec<SkippedDto>,
    left_out: Vec<LeftOutDto>,
}

pub(super) fn teach(global: &Global, args: &TeachArgs) -> Result<(), EdgeError> {
    let name = ClassName::new(&args.class)?;
    let PictureFolder { pictures: paths, left_out } = folders::expand(&args.images)?;
    let mut session = Session::open(global, Access::Write)?;
    let taken = intake(&mut session, &paths, Keep::Views, |_| Shots::n_views(paths.len()))?;
    let left_out = report::left_out(&left_out, &taken.skipped);
    report::warn_left_out(&left_out);
    if taken.features.is_empty() {
        return Err(no_pictures(&name, &paths, &taken.skipped));
    }
    let mut shots = Shots::default();
    for ((_, feature), views) in taken.features.into_iter().zip(&taken.views) {
        shots.push(feature, views);
    }
    let report = session.teach_one(&name, shots)?;
    if global.json {
        let skipped = report::skipped(&taken.skipped);
        return report::json(&Printed { report, skipped, left_out });
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
