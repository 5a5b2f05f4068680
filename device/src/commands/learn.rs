//! `learn`: learns a task from a folder with one folder of pictures per class.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fmlora_learner::{Shots, Step, TaskClass};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::interrupt::Interrupt;
use crate::cli::{Global, LearnArgs};
use crate::folders::{ClassFolder, ClassFolders};
use crate::pictures::{Intake, Keep, intake, no_pictures};
use crate::report::{self, EstimateDto, LeftOutDto, SkippedDto, with_causes};
use crate::store::Access;
use crate::task::{
    self, PosedTask, ShotFeatures, TaskShots, TaskTraining, TaughtReport, TrainedReport,
    TrainingEnd,
};
use crate::{EdgeError, Session, folders};

/// The JSON document, printed after the training.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    taught: TaughtReport,
    #[serde(flatten)]
    trained: TrainedReport,
    /// False if a training brought no result that is in use.
    kept: bool,
    total_seconds: f64,
    skipped: Vec<SkippedDto>,
    left_out: Vec<LeftOutDto>,
}

pub(super) fn learn(global: &Global, args: &LearnArgs) -> Result<(), EdgeError> {
    let started = Instant::now();
    let ClassFolders { classes: folders, left_out } = folders::class_folders(&args.dir)?;
    let mut session = Session::open(global, Access::Write)?;
    let paths: Vec<PathBuf> = folders.iter().flat_map(|f| f.pictures.clone()).collect();
    let n_views: Vec<usize> = folders.iter().flat_map(n_views).collect();
    let taken = intake(&mut session, &paths, Keep::Tokens, |place| n_views[place])?;
    let skipped = report::skipped(&taken.skipped);
    let left_out = report::left_out(&left_out, &taken.skipped);
    report::warn_left_out(&left_out);
    let posed = posed(&mut session, &folders, taken, started)?;
    let (mut taught, training) = task::teach(&mut session, posed)?;
    // From here on Ctrl-C ends the training only, so its handler starts before the answer is
    // printed.
    let training = training.map(|training| (training, Interrupt::watch()));
    // An answer that cannot be printed does not prevent the training.
    let answered = if global.json { Ok(()) } else { tell_taught(&taught) };
    let trained = match &training {
        Some((training, interrupt)) => {
            train(&mut session, training, watcher(args.budget, interrupt))
        }
        None => TrainedReport::without_result(TrainingEnd::NoRank, 0.0),
    };
    answered?;
    if trained.training == TrainingEnd::Kept {
        taught.expect(session.estimate()?.map(EstimateDto::new));
    }
    if global.json {
        let kept = matches!(trained.training, TrainingEnd::Kept | TrainingEnd::NoRank);
        let total_seconds = started.elapsed().as_secs_f64();
        return report::json(&Printed { taught, trained, kept, total_seconds, skipped, left_out });
    }
    if training.is_some() { tell_trained(&taught, &trained) } else { Ok(()) }
}

/// Returns the task of the pictures that were read.
fn posed(
    session: &mut Session,
    folders: &[ClassFolder],
    taken: Intake,
    started: Instant,
) -> Result<PosedTask, EdgeError> {
    let engine = session.engine()?;
    let forward = engine.forward_time();
    let tokens = engine.recorded();
    let classes = rows_of_classes(folders, &taken)?;
    let of_all: Vec<usize> = folders.iter().flat_map(|folder| folder.occasions.clone()).collect();
    let occasions = taken.features.iter().map(|(place, _)| of_all[*place]).collect();
    let mut seen = ShotFeatures::of_shots(taken.features.into_iter().map(|(_, f)| f).collect());
    taken.views.into_iter().enumerate().for_each(|(shot, views)| seen.push_views(shot, views));
    let shots = TaskShots { classes, occasions, seen };
    Ok(PosedTask { shots, tokens, started, forward })
}

/// Returns the number of views of each picture of a class. It depends on the number of pictures of
/// the occasion.
fn n_views(folder: &ClassFolder) -> Vec<usize> {
    let together = |occasion: &usize| folder.occasions.iter().filter(|o| *o == occasion).count();
    folder.occasions.iter().map(together).map(Shots::n_views).collect()
}

/// Trains a task after its classes are taught, and puts the result to use if it is judged better. A
/// failure leaves the classes taught.
fn train(
    session: &mut Session,
    training: &TaskTraining,
    mut watch: impl FnMut(Step) -> ControlFlow<()>,
) -> TrainedReport {
    let ran = session.engine().map(|engine| {
        // The classes are committed: a panic must not take their report with it.
        catch_unwind(AssertUnwindSafe(|| training.run(engine, &mut watch)))
    });
    // The progress bar is cleared here.
    drop(watch);
    let (mut report, kept) = match ran {
        Ok(Ok(ran)) => ran,
        Ok(Err(_)) => {
            session.drop_engine();
            return TrainedReport::crash();
        }
        Err(error) => return TrainedReport::failure(with_causes(&error), 0.0),
    };
    if let Some(kept) = kept {
        report.put_to_use(training.take_over(session, &kept).map_err(|e| with_causes(&e)));
    }
    report
}

/// Returns a watcher that shows each step, and ends the training when the budget is spent or Ctrl-C was pressed.
fn watcher(
    budget_seconds: Option<f64>,
    interrupt: &Interrupt,
) -> impl FnMut(Step) -> ControlFlow<()> {
    let mut bar = None;
    let started = Instant::now();
    move |step: Step| {
        bar.get_or_insert_with(|| progress_bar(step.of)).inc(1);
        let over = budget_seconds.is_some_and(|b| started.elapsed().as_secs_f64() > b);
        if over || interrupt.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn progress_bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("still learning {bar:30} {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(steps as u64);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn tell_taught(taught: &TaughtReport) -> Result<(), EdgeError> {
    report::line(format!(
        "learned {} classes from {} pictures in {:.1} s ({:.1} s of it forward passes)",
        taught.classes.len(),
        taught.shots,
        taught.answered_seconds,
        taught.forward_seconds
    ))?;
    taught.estimate.as_ref().map_or(Ok(()), |estimate| report::line(estimate.text()))
}

fn tell_trained(taught: &TaughtReport, trained: &TrainedReport) -> Result<(), EdgeError> {
    report::line(trained.text())?;
    if trained.training != TrainingEnd::Kept {
        return Ok(());
    }
    taught.estimate.as_ref().map_or(Ok(()), |estimate| report::line(estimate.text()))
}

/// Returns the classes with the rows of their readable pictures.
fn rows_of_classes(folders: &[ClassFolder], taken: &Intake) -> Result<Vec<TaskClass>, EdgeError> {
    let mut classes = Vec::with_capacity(folders.len());
    let mut end = 0;
    let mut row = 0;
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
