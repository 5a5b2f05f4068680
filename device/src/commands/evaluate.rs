//! `evaluate`: measures the accuracy on pictures with known classes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use fmlora_learner::Calibration;
use serde::Serialize;

use crate::cli::{EvaluateArgs, Global};
use crate::folders::ClassFolders;
use crate::pictures::{Keep, Skipped, intake, no_pictures};
use crate::report::{self, LeftOutDto, SkippedDto};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

#[derive(Debug, Serialize)]
struct EvaluateReport {
    /// Accuracy over the classes that were taught; null if none of the classes was taught.
    accuracy: Option<f64>,
    per_class: BTreeMap<String, f64>,
    /// Number of pictures by class shown and class predicted.
    confusion: BTreeMap<String, BTreeMap<String, usize>>,
    images: usize,
    /// Mean confidence of the answers on pictures of taught classes.
    confidence: f64,
    /// Expected calibration error of these answers over 15 bins.
    calibration_error: f64,
    /// Share of pictures of taught classes that were classified as unknown.
    unknown: f64,
    /// The same for pictures of classes that were never taught; null if there are none.
    unknown_of_untaught: Option<f64>,
    seconds: f64,
    skipped: Vec<SkippedDto>,
    left_out: Vec<LeftOutDto>,
}

#[derive(Debug, Default)]
struct Tally {
    confusion: BTreeMap<String, BTreeMap<String, usize>>,
    taught: usize,
    taught_unknown: usize,
    calibration: Calibration,
    untaught: usize,
    untaught_unknown: usize,
}

pub(super) fn run(global: &Global, args: &EvaluateArgs) -> Result<(), EdgeError> {
    let started = Instant::now();
    let ClassFolders { classes: folders, left_out } = folders::class_folders(&args.dir)?;
    let mut session = Session::open(global, Access::Read)?;
    let paths: Vec<PathBuf> = folders.iter().flat_map(|f| f.pictures.clone()).collect();
    let taken = intake(&mut session, &paths, Keep::Features, |_| 0)?;
    let left_out = report::left_out(&left_out, &taken.skipped);
    report::warn_left_out(&left_out);
    let mut end = 0;
    for folder in &folders {
        let places = end..end + folder.pictures.len();
        end = places.end;
        if !taken.features.iter().any(|(place, _)| places.contains(place)) {
            return Err(no_pictures(&folder.name, &folder.pictures, &taken.skipped));
        }
    }
    // Class of each picture in the spelling of the state, and true if the class was taught.
    let owners: Vec<(String, bool)> = folders
        .iter()
        .flat_map(|folder| {
            let known = session.learner().class(&folder.name).ok();
            let name = known.map_or(&folder.name, |class| &class.name).to_string();
            std::iter::repeat_n((name, known.is_some()), folder.pictures.len())
        })
        .collect();
    let predictor = session.predictor()?;
    let mut tally = Tally::default();
    for (place, feature) in &taken.features {
        let prediction = predictor.predict(feature, 1);
        let (owner, is_taught) = &owners[*place];
        if !is_taught {
            tally.untaught += 1;
            tally.untaught_unknown += usize::from(prediction.unknown);
            continue;
        }
        tally.taught += 1;
        tally.taught_unknown += usize::from(prediction.unknown);
        let named = prediction.top.first().map_or_else(String::new, |g| g.class.to_string());
        let confidence = prediction.top.first().map_or(0.0, |g| f64::from(g.confidence));
        tally.calibration.push(confidence, named == *owner);
        *tally.confusion.entry(owner.clone()).or_default().entry(named).or_default() += 1;
    }
    let report = summarise(tally, &taken.skipped, left_out, started);
    if global.json {
        return report::json(&report);
    }
    print(&report)
}

fn summarise(
    tally: Tally,
    skipped: &[Skipped],
    left_out: Vec<LeftOutDto>,
    started: Instant,
) -> EvaluateReport {
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let right =
        |class: &String, named: &BTreeMap<String, usize>| named.get(class).copied().unwrap_or(0);
    let per_class = tally.confusion.iter();
    let per_class: BTreeMap<String, f64> = per_class
        .map(|(class, named)| (class.clone(), share(right(class, named), named.values().sum())))
        .collect();
    let all_right = tally.confusion.iter().map(|(class, named)| right(class, named)).sum();
    EvaluateReport {
        accuracy: (tally.taught > 0).then(|| share(all_right, tally.taught)),
        per_class,
        images: tally.taught + tally.untaught,
        confidence: tally.calibration.confidence(),
        calibration_error: tally.calibration.error(),
        unknown: share(tally.taught_unknown, tally.taught),
        unknown_of_untaught: (tally.untaught > 0)
            .then(|| share(tally.untaught_unknown, tally.untaught)),
        seconds: started.elapsed().as_secs_f64(),
        skipped: report::skipped(skipped),
        left_out,
        confusion: tally.confusion,
    }
}

fn print(report: &EvaluateReport) -> Result<(), EdgeError> {
    let accuracy = report.accuracy.map_or_else(
        || "none of these classes was taught".to_owned(),
        |accuracy| format!("accuracy {:.1} %", 100.0 * accuracy),
    );
    let images = report.images;
    let seconds = report.seconds;
    report::line(format!("{accuracy}, {images} pictures in {seconds:.1} s"))?;
    for (class, accuracy) in &report.per_class {
        let named = &report.confusion[class];
        let worst = named.iter().filter(|(n, _)| *n != class).max_by_key(|(_, count)| **count);
        let worst = worst.map_or_else(String::new, |(n, count)| format!(", {count} taken for {n}"));
        report::line(format!("  {class}: {:.1} %{worst}", 100.0 * accuracy))?;
    }
    report::line(format!(
        "mean confidence {:.1} %, off by {:.1} points on the mean",
        100.0 * report.confidence,
        100.0 * report.calibration_error
    ))?;
    report::line(format!("called unknown: {:.1} % of taught classes", 100.0 * report.unknown))?;
    match report.unknown_of_untaught {
        Some(share) => {
            report::line(format!("called unknown: {:.1} % of classes never taught", 100.0 * share))
        }
        None => Ok(()),
    }
}
