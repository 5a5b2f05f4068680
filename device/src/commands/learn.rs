//! `learn`: a task, that is a folder with one folder of pictures per class.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fmlora_learner::{
    AdaptError, Adaptation, AdaptationConfig, Class, Complexity, OperationKind, Step, Task,
    TaskClass, TokenCache, TrainError,
};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::{Global, LearnArgs};
use crate::folders::ClassFolder;
use crate::pictures::{Intake, intake, no_pictures};
use crate::report::{self, EstimateDto, SkippedDto};
use crate::session::ShotsOfClass;
use crate::store::Access;
use crate::{EdgeError, Session, folders};

/// What a task brought. With rank 0 nothing was trained and `trained_seconds` is 0.
#[derive(Debug, Serialize)]
struct LearnReport {
    task: u64,
    classes: Vec<String>,
    shots: usize,
    /// `H` of the task, half difficulty and half novelty.
    complexity: f64,
    difficulty: f64,
    novelty: f64,
    /// Rank that was trained.
    rank: usize,
    forward_seconds: f64,
    trained_seconds: f64,
    total_seconds: f64,
    accuracy_before: Option<f64>,
    accuracy_after: Option<f64>,
    /// Accuracy on shots that the training did not see, without and with it.
    held_out_before: Option<f64>,
    held_out_after: Option<f64>,
    /// Whether what was trained is in use; true where nothing had to be trained.
    kept: bool,
    skipped: Vec<SkippedDto>,
    estimate: Option<EstimateDto>,
}

/// What training made of a task.
struct Trained {
    outcome: Option<Adaptation>,
    seconds: f64,
}

pub(super) fn learn(global: &Global, args: &LearnArgs) -> Result<(), EdgeError> {
    let started = Instant::now();
    let folders = folders::class_folders(&args.dir)?;
    let mut session = Session::open(global, Access::Write)?;
    let paths: Vec<PathBuf> = folders.iter().flat_map(|f| f.pictures.clone()).collect();
    let engine = session.engine()?;
    if engine.adapter().is_some() {
        engine.record();
    }
    let taken = intake(engine, &paths)?;
    let forward_seconds = engine.forward_time().as_secs_f64();
    let tokens = engine.recorded();
    report::warn_skipped(&taken.skipped);
    let classes = rows_of_classes(&folders, &taken)?;
    let features: Vec<Vec<f32>> = taken.features.into_iter().map(|(_, f)| f).collect();
    // What is said to be the accuracy before is over the classes known before.
    let accuracy_before = session.fitted()?.estimate.map(|e| e.accuracy);
    let task = session.store().next_operation();
    let complexity = complexity(&session, &classes, &features);
    let mut trained = Trained { outcome: None, seconds: 0.0 };
    if let Some(tokens) = &tokens {
        let task = Task { classes: &classes, tokens, features: &features };
        trained = train(&mut session, task, args.budget)?;
    }
    drop(tokens);
    let judged = trained.outcome.as_ref().and_then(|o| Some(o.judgements.first()?.1));
    let rank = trained.outcome.as_ref().map_or(0, |outcome| outcome.rank);
    let kept = trained.outcome.and_then(|outcome| outcome.kept);
    let refused = rank > 0 && kept.is_none();
    let done = match kept {
        Some(kept) => {
            let shots = shots_of(&classes, &kept.features);
            session.teach_adapted(&kept, &shots)?
        }
        None => session.teach(OperationKind::Learn, &shots_of(&classes, &features))?,
    };
    tracing::info!("head fitted in {:.0?}, written in {:.0?}", done.fit_time, done.write_time);
    let estimate = done.head.estimate.as_ref();
    let report = LearnReport {
        task,
        classes: folders.iter().map(|f| f.name.to_string()).collect(),
        shots: features.len(),
        complexity: complexity.h(),
        difficulty: complexity.difficulty,
        novelty: complexity.novelty,
        rank,
        forward_seconds,
        trained_seconds: trained.seconds,
        total_seconds: started.elapsed().as_secs_f64(),
        accuracy_before,
        accuracy_after: estimate.map(|e| e.accuracy),
        held_out_before: judged.map(|j| j.accuracy_before),
        held_out_after: judged.map(|j| j.accuracy_after),
        kept: !refused,
        skipped: report::skipped(&taken.skipped),
        estimate: estimate.map(EstimateDto::new),
    };
    print(global, &report)
}

fn print(global: &Global, report: &LearnReport) -> Result<(), EdgeError> {
    if global.json {
        return report::json(report);
    }
    report::line(format!(
        "learned {} classes from {} pictures in {:.1} s ({:.1} s of it forward passes)",
        report.classes.len(),
        report.shots,
        report.total_seconds,
        report.forward_seconds
    ))?;
    if report.rank > 0 {
        let (rank, seconds) = (report.rank, report.trained_seconds);
        let fate = if report.kept { "kept" } else { "taken back: it made nothing better" };
        report::line(format!("trained at rank {rank} for {seconds:.1} s, {fate}"))?;
    }
    report.estimate.as_ref().map_or(Ok(()), |estimate| report::line(estimate.text()))
}

/// The classes with the places of their pictures among those that could be read.
fn rows_of_classes(folders: &[ClassFolder], taken: &Intake) -> Result<Vec<TaskClass>, EdgeError> {
    let (mut classes, mut end, mut row) = (Vec::with_capacity(folders.len()), 0, 0);
    for folder in folders {
        end += folder.pictures.len();
        let first = row;
        while taken.features.get(row).is_some_and(|(place, _)| *place < end) {
            row += 1;
        }
        if row == first {
            return Err(no_pictures(&folder.name, &folder.pictures, &taken.skipped));
        }
        classes.push(TaskClass { name: folder.name.clone(), rows: (first..row).collect() });
    }
    Ok(classes)
}

fn shots_of(classes: &[TaskClass], features: &[Vec<f32>]) -> Vec<ShotsOfClass> {
    let shots = |class: &TaskClass| class.rows.iter().map(|&row| features[row].clone()).collect();
    classes.iter().map(|class| (class.name.clone(), shots(class))).collect()
}

fn complexity(session: &Session, classes: &[TaskClass], features: &[Vec<f32>]) -> Complexity {
    let known: Vec<Arc<Class>> = session.learner().classes().cloned().collect();
    let no_tokens = TokenCache::new(0, 0);
    fmlora_learner::complexity_of(&known, Task { classes, tokens: &no_tokens, features })
}

/// Lets DRS choose a rank, and trains if it is not 0. A budget that runs out leaves everything as it was.
fn train(
    session: &mut Session,
    task: Task<'_>,
    budget_seconds: Option<f64>,
) -> Result<Trained, EdgeError> {
    let started = Instant::now();
    let known: Vec<Arc<Class>> = session.learner().classes().cloned().collect();
    let bar = ProgressBar::hidden();
    let mut watch = |step: Step| {
        if step.step == 1 {
            bar.set_length(step.of as u64);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.inc(1);
        let over = budget_seconds.is_some_and(|b| started.elapsed().as_secs_f64() > b);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let config = AdaptationConfig::default();
    let outcome = session.engine()?.adapt(&known, task, &config, &mut watch);
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(outcome) => {
            let trained = outcome.as_ref().is_some_and(|outcome| outcome.rank > 0);
            Ok(Trained { outcome, seconds: if trained { seconds } else { 0.0 } })
        }
        Err(EdgeError::Adapt(AdaptError::Train(TrainError::Stopped { steps }))) => {
            tracing::warn!("the budget ran out after {steps} steps: nothing was changed");
            Ok(Trained { outcome: None, seconds })
        }
        Err(error) => Err(error),
    }
}
