//! `probe`: measures the heads on frozen features, and the accuracy of their own estimates.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use fmlora_learner::format::decode_base;
use fmlora_learner::{Calibration, Class, ClassName, HeadChoice, Predictor, Prior, fit_head};
use fmlora_models::DeviceSpec;
use serde::Serialize;

use crate::cli::ProbeArgs;
use crate::dataset::{Dataset, Pictures};
use crate::network::adapted_network;
use crate::trust::{Answer, Strangers, taught_classes};
use crate::{features, files};

/// Shrinkage of the fixed LDA, for comparison with the selected one.
const FIXED: f64 = 0.03;

#[derive(Debug, Serialize)]
struct ProbeReport {
    dataset: String,
    classes: usize,
    test_images: usize,
    rows: Vec<Row>,
}

/// Results for one number of shots.
#[derive(Debug, Serialize)]
struct Row {
    shots: usize,
    nearest_mean: f64,
    lda_fixed: f64,
    auto: f64,
    /// Share of the covariance that does not come from the shots.
    shrinkage: f32,
    /// Accuracy that the head estimates for pictures like the shots, from statistics alone.
    expected: Option<f64>,
    /// The same estimate with the shots at hand, leaving each one out.
    expected_with_shots: Option<f64>,
    /// Accuracy that the head estimates for another day.
    another_day: Option<f64>,
    /// Mean confidence of auto on the test pictures: equals its accuracy when calibrated.
    confidence: f64,
    /// Expected calibration error over 15 bins.
    calibration_error: f64,
    strangers: Strangers,
    /// Bytes of the means of all classes.
    mean_bytes: usize,
    /// Bytes of the scatters of all classes.
    scatter_bytes: usize,
    fit_seconds: f64,
}

struct Features {
    train: Vec<Vec<f32>>,
    test: Vec<Vec<f32>>,
}

pub(super) fn run(args: &ProbeArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let bytes = files::read(&args.base)?;
    let (base, _) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let backbone = adapted_network(&base, &base.backbone, device)?;
    let data = args.data.load()?;
    ensure!(!data.test.items.is_empty(), "the data have no test pictures");
    let taught = args.taught.unwrap_or(data.names.len() / 2).clamp(1, data.names.len());
    let found = Features {
        train: features::compute(&backbone, &data.train, "training pictures")?,
        test: features::compute(&backbone, &data.test, "test pictures")?,
    };
    let rows: Result<Vec<Row>> = args
        .shots
        .iter()
        .map(|&shots| measure(&data, &found, base.prior.as_ref(), shots, taught))
        .collect();
    let report = ProbeReport {
        dataset: args.data.to_string(),
        classes: data.names.len(),
        test_images: data.test.items.len(),
        rows: rows?,
    };
    if as_json {
        return files::line(serde_json::to_string(&report)?);
    }
    print(&report)
}

fn measure(
    data: &Dataset,
    found: &Features,
    prior: Option<&Prior>,
    shots: usize,
    taught: usize,
) -> Result<Row> {
    let by_class = first_shots(&data.train, &found.train, &data.names, shots)?;
    let classes = classes(data, &by_class)?;
    let d = found.test[0].len();
    let at_hand: Vec<(usize, &[Vec<f32>])> =
        by_class.iter().map(Vec::as_slice).enumerate().collect();
    let started = std::time::Instant::now();
    let auto = fit_head(&classes, d, prior, HeadChoice::Auto, &[])?;
    let fit_seconds = started.elapsed().as_secs_f64();
    let nearest = fit_head(&classes, d, prior, HeadChoice::NearestMean, &[])?.predictor;
    let fixed = fit_head(&classes, d, prior, HeadChoice::Lda(FIXED), &[])?.predictor;
    let with_shots = fit_head(&classes, d, prior, HeadChoice::Auto, &at_hand)?.estimate;
    let labels: Vec<usize> = (0..classes.len()).collect();
    let answers = |predictor: &Predictor| answers(predictor, &labels, &found.test);
    let own_answers = answers(&auto.predictor);
    let mut calibration = Calibration::default();
    for (answer, label) in own_answers.iter().zip(&data.test.labels) {
        calibration.push(answer.confidence, answer.label == *label);
    }
    let accuracy = |answers: &[Answer]| accuracy(answers, &data.test.labels);
    let bytes = classes.iter().map(|c| c.n_bytes());
    let (mean_bytes, scatter_bytes) = bytes.fold((0, 0), |(a, b), (m, s)| (a + m, b + s));
    Ok(Row {
        shots,
        nearest_mean: accuracy(&answers(&nearest)),
        lda_fixed: accuracy(&answers(&fixed)),
        auto: accuracy(&own_answers),
        shrinkage: auto.predictor.shrinkage(),
        expected: auto.estimate.as_ref().map(|e| e.accuracy),
        another_day: auto.estimate.as_ref().map(|e| e.another_day),
        expected_with_shots: with_shots.map(|e| e.accuracy),
        confidence: calibration.confidence(),
        calibration_error: calibration.error(),
        strangers: strangers(&classes, data, found, prior, taught)?,
        mean_bytes,
        scatter_bytes,
        fit_seconds,
    })
}

/// Returns the first shots of each class.
fn first_shots(
    pictures: &Pictures,
    features: &[Vec<f32>],
    names: &[String],
    shots: usize,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut by_class = vec![Vec::new(); names.len()];
    for (&label, feature) in pictures.labels.iter().zip(features) {
        if by_class[label].len() < shots {
            by_class[label].push(feature.clone());
        }
    }
    if let Some((name, found)) = names.iter().zip(&by_class).find(|(_, c)| c.len() < shots) {
        let found = found.len();
        bail!("class \"{name}\" has {found} training pictures, but --shots asks for {shots}");
    }
    Ok(by_class)
}

/// Computes the statistics of all classes, in the order of labels.
fn classes(data: &Dataset, by_class: &[Vec<Vec<f32>>]) -> Result<Vec<Arc<Class>>> {
    let class = |(name, shots): (&String, &Vec<Vec<f32>>)| -> Result<Arc<Class>> {
        Ok(Arc::new(Class::from_shots(ClassName::new(name)?, shots)?))
    };
    data.names.iter().zip(by_class).map(class).collect()
}

fn answers(predictor: &Predictor, labels: &[usize], test: &[Vec<f32>]) -> Vec<Answer> {
    test.iter().map(|feature| Answer::of(predictor, labels, feature)).collect()
}

fn accuracy(answers: &[Answer], labels: &[usize]) -> f64 {
    let right = labels.iter().zip(answers).filter(|(label, answer)| answer.label == **label);
    right.count() as f64 / answers.len().max(1) as f64
}

/// Teaches some classes, and measures the answers to pictures of all classes.
fn strangers(
    classes: &[Arc<Class>],
    data: &Dataset,
    found: &Features,
    prior: Option<&Prior>,
    taught: usize,
) -> Result<Strangers> {
    let known = taught_classes(classes.len(), taught);
    let chosen: Vec<Arc<Class>> = known.iter().map(|&i| classes[i].clone()).collect();
    let head = fit_head(&chosen, found.test[0].len(), prior, HeadChoice::Auto, &[])?.predictor;
    let mut own = Vec::new();
    let mut other = Vec::new();
    for (label, feature) in data.test.labels.iter().zip(&found.test) {
        let answers = if known.contains(label) { &mut own } else { &mut other };
        answers.push(Answer::of(&head, &known, feature));
    }
    Ok(Strangers::new(taught, &own, &other))
}

fn print(report: &ProbeReport) -> Result<()> {
    files::line(format!("{} classes, {} test pictures", report.classes, report.test_images))?;
    files::line(format!(
        "{:>6} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>11} {:>6} {:>6}  {:>7} {:>8} {:>8} {:>6}  {:>11}",
        "shots",
        "nearest",
        "lda .03",
        "auto",
        "shrink",
        "expected",
        "with shots",
        "another day",
        "conf",
        "ece",
        "alarms",
        "unknown",
        "at 5 %",
        "auroc",
        "KiB a class"
    ))?;
    for row in &report.rows {
        let or_dash = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        let kib = |bytes: usize| bytes as f64 / 1024.0 / report.classes as f64;
        files::line(format!(
            "{:>6} {:>8.3} {:>8.3} {:>8.3} {:>7.3} {:>9} {:>9} {:>11} {:>6.3} {:>6.3}  {:>7.3} {:>8.3} {:>8.3} {:>6.3}  {:>4.1} + {:.1}",
            row.shots,
            row.nearest_mean,
            row.lda_fixed,
            row.auto,
            row.shrinkage,
            or_dash(row.expected),
            or_dash(row.expected_with_shots),
            or_dash(row.another_day),
            row.confidence,
            row.calibration_error,
            row.strangers.false_alarms,
            row.strangers.detected,
            row.strangers.detected_at_5_percent,
            row.strangers.auroc,
            kib(row.mean_bytes),
            kib(row.scatter_bytes)
        ))?;
    }
    Ok(())
}
