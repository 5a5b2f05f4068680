//! `learn`: a task, that is a folder with one folder of pictures per class.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fmlora_learner::{Shots, Step, TaskClass};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::{Global, LearnArgs};
use crate::folders::{ClassFolder, ClassFolders};
use crate::pictures::{Intake, Keep, intake, no_pictures};
use crate::report::{self, LeftOutDto, SkippedDto};
use crate::store::Access;
use crate::task::{self, LearnReport, ShotFeatures, TaskShots};
use crate::{EdgeError, Session, folders};

/// What the command prints.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    report: LearnReport,
    skipped: Vec<SkippedDto>,
    left_out: Vec<LeftOutDto>,
}

pub(super) fn learn(global: &Global, args: &LearnArgs) -> Result<(), EdgeError> {
    let started = Instant::now();
    let ClassFolders { classes: folders, left_out } = folders::class_folders(&args.dir)?;
    let mut session = Session::open(global, Access::Write)?;
    let paths: Vec<PathBuf> = folders.iter().flat_map(|f| f.pictures.clone()).collect();
    let occasions: Vec<usize> =
        folders.iter().flat_map(|folder| folder.occasions.clone()).collect();
    let n_views: Vec<usize> = folders.iter().flat_map(n_views).collect();
    let taken = intake(&mut session, &paths, Keep::Tokens, |place| n_views[place])?;
    let engine = session.engine()?;
    let (forward, tokens) = (engine.forward_time(), engine.recorded());
    let left_out = report::left_out(&left_out, &taken.skipped);
    report::warn_left_out(&left_out);
    let classes = rows_of_classes(&folders, &taken)?;
    let occasions = taken.features.iter().map(|(place, _)| occasions[*place]).collect();
    let mut seen = ShotFeatures::of_shots(taken.features.into_iter().map(|(_, f)| f).collect());
    taken.views.into_iter().enumerate().for_each(|(shot, views)| seen.push_views(shot, views));
    let shots = TaskShots { classes, occasions, seen, tokens, started, forward };
    let bar = ProgressBar::hidden();
    let mut watch = watcher(&bar, args.budget);
    let report = task::learn(&mut session, shots, &mut watch)?;
    bar.finish_and_clear();
    print(global, Printed { report, skipped: report::skipped(&taken.skipped), left_out })
}

/// Views of each picture of a class, by how many were taken together.
fn n_views(folder: &ClassFolder) -> Vec<usize> {
    let together = |occasion: &usize| folder.occasions.iter().filter(|o| *o == occasion).count();
    folder.occasions.iter().map(together).map(Shots::n_views).collect()
}

/// Shows each step of a training, and ends it when the budget is spent.
fn watcher(bar: &ProgressBar, budget_seconds: Option<f64>) -> impl FnMut(Step) -> ControlFlow<()> {
    let mut first = None;
    move |step: Step| {
        let started = *first.get_or_insert_with(Instant::now);
        if step.step == 1 {
            bar.set_length(step.of as u64);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.inc(1);
        let over = budget_seconds.is_some_and(|b| started.elapsed().as_secs_f64() > b);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn print(global: &Global, printed: Printed) -> Result<(), EdgeError> {
    if global.json {
        return report::json(&printed);
    }
    let report = printed.report;
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
