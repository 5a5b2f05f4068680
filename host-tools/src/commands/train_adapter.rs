//! `train-adapter`: trains a task on the workstation and writes it as an adapter file for devices.

mod ground;
mod measure;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use fmlora_learner::format::{
    AdapterFacts, AdapterFile, AdapterName, decode_adapter, decode_base, encode_adapter,
};
use fmlora_learner::{
    Adaptation, AdaptationConfig, Adapter, Class, ClassName, Complexity, DriftMap, Kept,
    KnownAnswer, LowRankDrift, Step, Task, TaskClass, TaskSummary, TokenCache, adapt,
    adapted_features, complexity_of, test_pattern, with_task,
};
use fmlora_models::{Backbone, DeviceSpec};
use serde::Serialize;

use crate::bench::prepared::{features_of, tokens_of};
use crate::cli::TrainAdapterArgs;
use crate::dataset::Dataset;
use crate::network::network;
use crate::progress::{show_step, training_bar};
use crate::{features, files};

use ground::Start;
use measure::{Measured, Pupil};

/// Report of the command.
#[derive(Debug, Serialize)]
struct Report {
    out: String,
    name: String,
    release: u64,
    base_id: String,
    feature_space_before: String,
    feature_space_after: String,
    classes: usize,
    shots: usize,
    known_classes: usize,
    /// `H`, half difficulty and half novelty.
    complexity: f64,
    difficulty: f64,
    novelty: f64,
    /// Trained rank.
    rank: usize,
    /// True if the file has the trained update: only if it was better by the margin.
    kept: bool,
    /// Accuracy on held-out shots without the trained update.
    held_out_before: Option<f64>,
    /// Accuracy on held-out shots with the trained update.
    held_out_after: Option<f64>,
    #[serde(flatten)]
    measured: Option<Measured>,
    bytes: usize,
    parts: Parts,
    seconds: f64,
}

/// Sizes of the parts of the file, in bytes.
#[derive(Debug, Serialize)]
struct Parts {
    task: usize,
    drift: usize,
    means: usize,
    scatter: usize,
}

/// The task's training pictures by class, with tokens and features before the task.
struct Shots {
    classes: Vec<TaskClass>,
    tokens: TokenCache,
    features: Vec<Vec<f32>>,
}

impl Shots {
    fn task(&self) -> Task<'_> {
        let Self { classes, tokens, features } = self;
        Task { classes, views: &[], tokens, features, prior: None }
    }
}

pub(super) fn run(args: &TrainAdapterArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let started = Instant::now();
    let name = name_of(args)?;
    files::check_place(&args.out)?;
    let bytes = files::read(&args.base)?;
    let (base, base_id) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let start = Start::new(args, &base, base_id)?;
    let backbone = network(&base.weights, &base.backbone, device)?;
    let data = args.data.load()?;
    let prior = base.prior.as_ref().filter(|_| start.state.is_none());
    let pupil = Pupil { backbone: &backbone, base_id, start: &start, prior };
    let exams = measure::exams(&backbone, &data, args)?;
    let shots = shots(&pupil, &data)?;
    let (outcome, complexity) = train(&pupil, &shots, args)?;
    let judged = outcome.as_ref().and_then(|o| Some(o.judgements.first()?.1));
    let rank = outcome.as_ref().map_or(0, |outcome| outcome.rank);
    let kept = outcome.and_then(|outcome| outcome.kept);
    let facts = AdapterFacts {
        name,
        base_id,
        space_before: start.space,
        space_after: match &kept {
            Some(kept) => base_id.feature_space_after(kept.adapter.state())?,
            None => start.space,
        },
        release: args.release,
        min_daemon: args.min_daemon,
    };
    let after = kept.as_ref().map_or(&shots.features, |kept| &kept.features);
    let mut file = AdapterFile {
        facts,
        task: kept.as_ref().map(|kept| kept.task.clone()),
        drift: match &kept {
            Some(kept) => Some(drift(&shots.features, &kept.features, args.drift_columns)?),
            None => None,
        },
        summary: summary(
            &Task { features: after, ..shots.task() },
            rows_beside(args, kept.is_some()),
        )?,
        complexity,
        rank: rank as u32,
        accuracy: None,
        known_answer: known_answer(&backbone, kept.as_ref(), &start)?,
    };
    let measured = measure::measure(&pupil, &file, &shots, args, &exams)?;
    file.accuracy = measured.as_ref().map(Measured::in_file);
    let encoded = encode_adapter(&file)?;
    let (again, _) = decode_adapter(&encoded).context("the adapter just made cannot be read")?;
    again.apply(&start.ground(base_id)).context("the adapter just made cannot be applied")?;
    files::write_whole(&args.out, &encoded)?;
    let report = Report {
        out: args.out.display().to_string(),
        name: file.facts.name.to_string(),
        release: file.facts.release,
        base_id: base_id.to_string(),
        feature_space_before: file.facts.space_before.to_string(),
        feature_space_after: file.facts.space_after.to_string(),
        classes: shots.classes.len(),
        shots: shots.features.len(),
        known_classes: start.classes.len(),
        complexity: complexity.h(),
        difficulty: complexity.difficulty,
        novelty: complexity.novelty,
        rank,
        kept: kept.is_some(),
        held_out_before: judged.map(|j| j.accuracy_before),
        held_out_after: judged.map(|j| j.accuracy_after),
        measured,
        bytes: encoded.len(),
        parts: Parts::of(&file),
        seconds: started.elapsed().as_secs_f64(),
    };
    if as_json {
        return files::line(serde_json::to_string(&report)?);
    }
    report.print()
}

/// Returns the name of the adapter: `--name`, or the name of the output file without extension and
/// release. All releases of an adapter have the same name, so the next one replaces the last one
/// on devices.
fn name_of(args: &TrainAdapterArgs) -> Result<AdapterName> {
    if let Some(name) = &args.name {
        return Ok(name.clone());
    }
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy();
    AdapterName::new(without_release(&stem, args.release))
        .context("--name says what an adapter is called if its file cannot")
}

/// Separators of name and release.
const SEPARATORS: [char; 3] = ['-', '_', '.'];

/// Strips the release from a file name. With release 1, `birds-1`, `birds_1` and `birds-v1` become
/// `birds`. Other numbers belong to the name.
fn without_release(stem: &str, release: u64) -> &str {
    let before = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_release = stem[before.len()..].parse() == Ok(release);
    let version = before.strip_suffix(['v', 'r']).filter(|rest| rest.ends_with(SEPARATORS));
    let separated = version.unwrap_or(before);
    let name = separated.trim_end_matches(SEPARATORS);
    if is_release && !name.is_empty() && name.len() < separated.len() { name } else { stem }
}

/// Computes the tokens and features of the training pictures, by class.
fn shots(pupil: &Pupil<'_>, data: &Dataset) -> Result<Shots> {
    let tokens = tokens_of(pupil.backbone, &data.train, "training")?;
    let features = pupil.features(&tokens)?;
    let class = |(label, name): (usize, &String)| -> Result<TaskClass> {
        let rows = (0..data.train.labels.len()).filter(|&row| data.train.labels[row] == label);
        Ok(TaskClass { name: ClassName::new(name)?, rows: rows.collect() })
    };
    let classes: Result<Vec<TaskClass>> = data.names.iter().enumerate().map(class).collect();
    let classes: Vec<TaskClass> = classes?.into_iter().filter(|c| !c.rows.is_empty()).collect();
    ensure!(!classes.is_empty(), "the data have no training pictures");
    Ok(Shots { classes, tokens, features })
}

/// Trains the task if the base has shared bases and DRS selects a rank above 0.
fn train(
    pupil: &Pupil<'_>,
    shots: &Shots,
    args: &TrainAdapterArgs,
) -> Result<(Option<Adaptation>, Complexity)> {
    let task = Task { prior: pupil.prior, ..shots.task() };
    let known = pupil.start.classes.as_slice();
    let complexity = complexity_of(known, task);
    let Some(adapter) = &pupil.start.adapter else { return Ok((None, complexity)) };
    let mut config = AdaptationConfig {
        fixed_rank: args.rank,
        margin: args.margin,
        ..AdaptationConfig::default()
    };
    config.task.training.seed = args.seed;
    if let Some(epochs) = args.epochs {
        config.task.training.epochs = epochs;
    }
    let bar = training_bar()?;
    let mut watch = |step: Step| {
        show_step(&bar, &step);
        ControlFlow::Continue(())
    };
    let outcome = adapt(pupil.backbone, adapter, known, task, &config, &mut watch)?;
    bar.finish_and_clear();
    Ok((Some(outcome), complexity))
}

/// Computes the drift map of the task, cut to the rank (`columns`) that the file holds.
fn drift(before: &[Vec<f32>], after: &[Vec<f32>], columns: usize) -> Result<LowRankDrift> {
    let ridge = AdaptationConfig::default().drift_ridge.unwrap_or(0.1);
    let map = DriftMap::fit(before, after, ridge)?;
    map.low_rank(before, columns).context("the features give no usable drift map")
}

/// Number of scatter rows beside those that separate the classes. The defaults keep an adapter of
/// ten classes below 96 KiB.
fn rows_beside(args: &TrainAdapterArgs, network_changes: bool) -> usize {
    args.scatter_rows.unwrap_or(if network_changes { 12 } else { 24 })
}

/// Summarises the statistics of the task's classes for the file, with `n_rest` further scatter
/// rows.
fn summary(task: &Task<'_>, n_rest: usize) -> Result<TaskSummary> {
    let classes: Vec<Arc<Class>> = with_task(&[], task, |_| true)?;
    Ok(TaskSummary::of(&classes, n_rest)?)
}

/// Computes the known answer of the network with the kept adapter.
fn known_answer(backbone: &Backbone, kept: Option<&Kept>, start: &Start) -> Result<KnownAnswer> {
    let adapter: Option<&Adapter> = kept.map(|k| &k.adapter).or(start.adapter.as_ref());
    let folded = match adapter {
        Some(adapter) => backbone.folded(&adapter.side_branches(backbone.device())),
        None => backbone.clone(),
    };
    let features = folded
        .features(test_pattern(backbone.n_pixels()))
        .map_err(|e| anyhow!("computing a feature failed: {e}"))?;
    features.first().and_then(|feature| KnownAnswer::of(feature)).context("a feature is not finite")
}

/// Computes the features of all rows of a cache, with an adapter if there is one.
fn features_with(
    backbone: &Backbone,
    adapter: Option<&Adapter>,
    tokens: &TokenCache,
) -> Result<Vec<Vec<f32>>> {
    if let Some(adapter) = adapter {
        return Ok(adapted_features(backbone, adapter, tokens)?);
    }
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let bar = features::bar(rows.len(), "features")?;
    let found = features_of(backbone, tokens, &rows, &bar);
    bar.finish_and_clear();
    found
}

impl Parts {
    fn of(file: &AdapterFile) -> Self {
        let gram = |m: &fmlora_learner::Matrix| 2 * m.values().len();
        let task = file
            .task
            .as_ref()
            .map_or(0, |task| task.update.n_bytes() + task.grams.values().map(gram).sum::<usize>());
        let (means, scatter) = file.summary.n_bytes();
        Self { task, drift: file.drift.as_ref().map_or(0, LowRankDrift::n_bytes), means, scatter }
    }
}

impl Report {
    fn print(&self) -> Result<()> {
        files::line(format!(
            "wrote {}: {} release {}, {} classes, {} shots, {} bytes, {:.0} s",
            self.out, self.name, self.release, self.classes, self.shots, self.bytes, self.seconds
        ))?;
        files::line(format!(
            "H {:.2} (difficulty {:.2}, novelty {:.2}), rank {}",
            self.complexity, self.difficulty, self.novelty, self.rank
        ))?;
        match (self.rank, self.kept, self.held_out_before, self.held_out_after) {
            (0, ..) => files::line("nothing was trained: statistics alone serve such a task best")?,
            (_, true, Some(before), Some(after)) => files::line(format!(
                "the training is kept: held-out shots {before:.3} without, {after:.3} with"
            ))?,
            _ => files::line("the training proved to be no better: statistics alone are written")?,
        }
        if let Some(measured) = &self.measured {
            measured.print()?;
        }
        files::line(format!("features before  {}", self.feature_space_before))?;
        files::line(format!("features after   {}", self.feature_space_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_one_adapter_have_one_name() {
        for (stem, release, name) in [
            ("birds-1", 1, "birds"),
            ("birds-2", 2, "birds"),
            ("birds_10", 10, "birds"),
            ("birds.3", 3, "birds"),
            ("birds-v4", 4, "birds"),
            ("birds_r05", 5, "birds"),
            ("birds", 7, "birds"),
            ("birds-112", 1, "birds-112"),
            ("cifar10", 10, "cifar10"),
            ("rev2", 2, "rev2"),
            ("1", 1, "1"),
            ("-1", 1, "-1"),
        ] {
            assert_eq!(without_release(stem, release), name, "{stem}");
        }
    }
}
