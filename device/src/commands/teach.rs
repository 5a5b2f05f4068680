//! `teach` and `learn`: shots of one class, or of a whole folder of classes.

use std::path::PathBuf;
use std::time::Instant;

use fmlora_learner::{ClassName, OperationKind};
use serde::Serialize;

use crate::cli::{Global, LearnArgs, TeachArgs};
use crate::pictures::{intake, no_pictures};
use crate::report::{self, EstimateDto, SkippedDto};
use crate::session::ShotsOfClass;
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

/// What a task brought. With rank 0 nothing is trained: `trained_seconds` is 0 and `complexity` is not
/// known.
#[derive(Debug, Serialize)]
struct LearnReport {
    task: u64,
    classes: Vec<String>,
    shots: usize,
    complexity: Option<f64>,
    rank: u32,
    forward_seconds: f64,
    trained_seconds: f64,
    total_seconds: f64,
    accuracy_before: Option<f64>,
    accuracy_after: Option<f64>,
    kept: bool,
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
        shots: class.statistics.count(),
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

pub(super) fn learn(global: &Global, args: &LearnArgs) -> Result<(), EdgeError> {
    let started = Instant::now();
    let folders = folders::class_folders(&args.dir)?;
    let mut session = Session::open(global, Access::Write)?;
    let paths: Vec<PathBuf> = folders.iter().flat_map(|f| f.pictures.clone()).collect();
    let mut taken = intake(session.engine()?, &paths)?;
    report::warn_skipped(&taken.skipped);
    let mut shots: Vec<ShotsOfClass> = Vec::with_capacity(folders.len());
    let mut end = 0;
    let mut features = std::mem::take(&mut taken.features).into_iter().peekable();
    for folder in &folders {
        end += folder.pictures.len();
        let mut of_class = Vec::new();
        while let Some((_, feature)) = features.next_if(|(place, _)| *place < end) {
            of_class.push(feature);
        }
        if of_class.is_empty() {
            return Err(no_pictures(&folder.name, &folder.pictures, &taken.skipped));
        }
        shots.push((folder.name.clone(), of_class));
    }
    // What is said to be the accuracy before is over the classes known before.
    let accuracy_before = session.fitted()?.estimate.map(|e| e.accuracy);
    let n_shots = shots.iter().map(|(_, s)| s.len()).sum();
    let task = session.store().next_operation();
    let done = session.teach(OperationKind::Learn, &shots)?;
    tracing::info!("head fitted in {:.0?}, written in {:.0?}", done.fit_time, done.write_time);
    let estimate = done.head.estimate.as_ref();
    let report = LearnReport {
        task,
        classes: folders.iter().map(|f| f.name.to_string()).collect(),
        shots: n_shots,
        complexity: None,
        rank: 0,
        forward_seconds: session.engine()?.forward_time().as_secs_f64(),
        trained_seconds: 0.0,
        total_seconds: started.elapsed().as_secs_f64(),
        accuracy_before,
        accuracy_after: estimate.map(|e| e.accuracy),
        kept: true,
        skipped: report::skipped(&taken.skipped),
        estimate: estimate.map(EstimateDto::new),
    };
    if global.json {
        return report::json(&report);
    }
    report::line(format!(
        "learned {} classes from {} pictures in {:.1} s ({:.1} s of it forward passes)",
        report.classes.len(),
        report.shots,
        report.total_seconds,
        report.forward_seconds
    ))?;
    report.estimate.as_ref().map_or(Ok(()), |estimate| report::line(estimate.text()))
}
