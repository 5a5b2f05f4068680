//! Accuracy of the adapter file on test pictures, read as on a device.

use std::sync::Arc;

use anyhow::{Context, Result};
use fmlora_learner::format::{AdapterFile, MeasuredAccuracy};
use fmlora_learner::{
    BaseId, Class, ClassName, HeadChoice, Predictor, Prior, Task, TokenCache, fit_head, with_task,
};
use fmlora_models::Backbone;
use serde::Serialize;

use super::{Shots, Start, features_with, rows_beside, summary};
use crate::bench::prepared::tokens_of;
use crate::cli::TrainAdapterArgs;
use crate::dataset::{DataSpec, Dataset};
use crate::files;

/// The network to train, with its adapter, classes and prior before the task.
pub(super) struct Pupil<'a> {
    pub(super) backbone: &'a Backbone,
    pub(super) base_id: BaseId,
    pub(super) start: &'a Start,
    /// The prior of the base, if no task has changed the network yet.
    pub(super) prior: Option<&'a Prior>,
}

/// Accuracies on test pictures, over all classes known to the workstation.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    test_pictures: usize,
    /// Accuracy of a device with this file.
    accuracy: f64,
    /// Accuracy with statistics of the same classes alone, without a change of the network.
    accuracy_without: f64,
    /// Accuracy with the full scatters of the task, which are too large for a file, instead of the
    /// few rows in the file.
    accuracy_full_statistics: f64,
    /// Accuracy on pictures of the task's classes.
    accuracy_new: Option<f64>,
    /// Accuracy on pictures of classes known before, if `--measure` has some.
    accuracy_known: Option<f64>,
}

impl Pupil<'_> {
    /// Computes the features before the task.
    pub(super) fn features(&self, tokens: &TokenCache) -> Result<Vec<Vec<f32>>> {
        features_with(self.backbone, self.start.adapter.as_ref(), tokens)
    }
}

/// Test pictures: tokens, and the key of each picture's class.
pub(super) struct Exam {
    tokens: TokenCache,
    keys: Vec<String>,
}

/// Reads the test pictures of the data and of `--measure`. They are read before the training, so
/// that an unreadable picture does not waste it.
pub(super) fn exams(
    backbone: &Backbone,
    data: &Dataset,
    args: &TrainAdapterArgs,
) -> Result<Vec<Exam>> {
    let more = args.measure.as_ref().map(DataSpec::load).transpose()?;
    [data].into_iter().chain(&more).map(|data| Exam::new(backbone, data)).collect()
}

impl Exam {
    fn new(backbone: &Backbone, data: &Dataset) -> Result<Self> {
        let key = |&label: &usize| Ok(ClassName::new(&data.names[label])?.key());
        let keys = data.test.labels.iter().map(key).collect::<Result<_>>()?;
        Ok(Self { tokens: tokens_of(backbone, &data.test, "test")?, keys })
    }
}

/// Placeholder for the SHA-256 of an adapter that is not written yet. Nothing reads it, because a
/// measurement never removes an adapter.
const UNNAMED: [u8; 32] = [0; 32];

/// Measures the accuracy on the test pictures. `None` if there are none.
pub(super) fn measure(
    pupil: &Pupil<'_>,
    file: &AdapterFile,
    shots: &Shots,
    args: &TrainAdapterArgs,
    exams: &[Exam],
) -> Result<Option<Measured>> {
    if exams.iter().all(|exam| exam.keys.is_empty()) {
        return Ok(None);
    }
    let applied = file.apply(&pupil.start.ground(pupil.base_id))?;
    let known = applied.known.clone().context("the adapter has no drift map")?;
    let after = match (&pupil.start.adapter, &applied.state) {
        (Some(adapter), Some(state)) => Some(adapter.with_state(state.clone())?),
        (adapter, _) => adapter.clone(),
    };
    let moved = match (pupil.prior, &file.drift) {
        (Some(prior), Some(drift)) if file.task.is_some() => {
            Some(prior.moved(|point| drift.apply(point))?)
        }
        (Some(prior), _) if file.task.is_none() => Some(prior.clone()),
        _ => None,
    };
    let with = head(&applied.classes(UNNAMED)?, moved.as_ref())?;
    let features_after = match (&file.task, &after) {
        (Some(_), Some(adapter)) => features_with(pupil.backbone, Some(adapter), &shots.tokens)?,
        _ => shots.features.clone(),
    };
    let all = with_task(&known, &Task { features: &features_after, ..shots.task() }, |_| true)?;
    let full = head(&all, moved.as_ref())?;
    let bare = AdapterFile {
        facts: fmlora_learner::format::AdapterFacts {
            space_after: file.facts.space_before,
            ..file.facts.clone()
        },
        task: None,
        drift: None,
        summary: summary(&shots.task(), rows_beside(args, false))?,
        ..file.clone()
    };
    let bare = bare.apply(&pupil.start.ground(pupil.base_id))?;
    let without = head(&bare.classes(UNNAMED)?, pupil.prior)?;
    let mut tally = Tally::default();
    for Exam { tokens, keys } in exams {
        let before = pupil.features(tokens)?;
        let moved = match &file.task {
            Some(_) => Some(features_with(pupil.backbone, after.as_ref(), tokens)?),
            None => None,
        };
        let seen = moved.as_ref().unwrap_or(&before);
        for ((key, was), is) in keys.iter().zip(&before).zip(seen) {
            tally.with += usize::from(tells(&with, is, key));
            tally.without += usize::from(tells(&without, was, key));
            tally.full += usize::from(tells(&full, is, key));
            let new = shots.classes.iter().any(|class| class.name.key() == *key);
            let part = if new { &mut tally.new } else { &mut tally.known };
            part.0 += 1;
            part.1 += usize::from(tells(&with, is, key));
        }
    }
    Ok(Some(tally.measured()))
}

/// Fits a head to classes.
fn head(classes: &[Arc<Class>], prior: Option<&Prior>) -> Result<Predictor> {
    let d = classes.first().map_or(0, |class| class.modes[0].d_feature());
    Ok(fit_head(classes, d, prior, HeadChoice::Auto, &[])?.predictor)
}

/// Returns true if the top guess for a feature is the class `key`.
fn tells(head: &Predictor, feature: &[f32], key: &str) -> bool {
    let top = head.predict(feature, 1).top;
    top.first().is_some_and(|guess| guess.class.key() == key)
}

/// Counts of correct predictions.
#[derive(Debug, Default)]
struct Tally {
    with: usize,
    without: usize,
    full: usize,
    /// Pictures of the task's classes, and correct predictions among them.
    new: (usize, usize),
    /// Pictures of all other classes, and correct predictions among them.
    known: (usize, usize),
}

impl Tally {
    fn measured(&self) -> Measured {
        let pictures = self.new.0 + self.known.0;
        let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
        let part = |(of, right): (usize, usize)| (of > 0).then(|| share(right, of));
        Measured {
            test_pictures: pictures,
            accuracy: share(self.with, pictures),
            accuracy_without: share(self.without, pictures),
            accuracy_full_statistics: share(self.full, pictures),
            accuracy_new: part(self.new),
            accuracy_known: part(self.known),
        }
    }
}

impl Measured {
    /// Returns the accuracies in the form of the file.
    pub(super) fn in_file(&self) -> MeasuredAccuracy {
        MeasuredAccuracy {
            with: self.accuracy as f32,
            without: self.accuracy_without as f32,
            n_pictures: self.test_pictures as u32,
        }
    }

    pub(super) fn print(&self) -> Result<()> {
        let part = |what, share: Option<f64>| match share {
            Some(share) => format!(", {what} classes {share:.3}"),
            None => String::new(),
        };
        files::line(format!(
            "accuracy on {} test pictures: {:.3}{}{} (statistics alone {:.3}, with all statistics {:.3})",
            self.test_pictures,
            self.accuracy,
            part("new", self.accuracy_new),
            part("known", self.accuracy_known),
            self.accuracy_without,
            self.accuracy_full_statistics
        ))
    }
}
