//! Results of the benchmark: one entry per run, saved in `results.json` after every run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fmlora_learner::AccuracyMatrix;
use serde::{Deserialize, Serialize};

use super::occasions::Trust;
use crate::files;

/// One method on one order of tasks. The JSON keys are a contract.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunResult {
    /// The data specification.
    pub(crate) dataset: String,
    /// `cil`, `dil` or `occasions`.
    pub(crate) scenario: String,
    /// Number of tasks.
    pub(crate) tasks: usize,
    /// Seed of the class order.
    pub(crate) order: u64,
    /// Name of the method.
    pub(crate) method: String,
    /// Ablation: parts of the method that are removed or changed; empty for the method itself.
    #[serde(default)]
    pub(crate) ablation: String,
    /// Accuracy after the last task.
    pub(crate) acc: f64,
    /// Mean over tasks of the accuracy on all seen so far.
    pub(crate) aaa: f64,
    /// Mean loss of accuracy of old tasks since their best.
    pub(crate) forgetting: f64,
    /// Backward transfer: mean change of accuracy of old tasks since they were learned.
    pub(crate) bwt: f64,
    /// Accuracies `a[t][j]` on task `j` after task `t`.
    pub(crate) matrix: Vec<Vec<f64>>,
    /// Test pictures of each task.
    pub(crate) test_images: Vec<usize>,
    /// Rank chosen for each task.
    pub(crate) ranks: Vec<usize>,
    /// `H` of each task; empty for methods without it.
    #[serde(default)]
    pub(crate) complexities: Vec<f64>,
    /// For each task, true if its update was kept; empty for methods that always keep it.
    #[serde(default)]
    pub(crate) kept: Vec<bool>,
    /// Seconds of learning, all tasks, without the features that all methods share.
    pub(crate) train_seconds: f64,
    /// Bytes that a task adds to the storage, the mean over tasks.
    pub(crate) bytes_per_task: usize,
    /// Bytes stored after the last task, the network aside.
    #[serde(default)]
    pub(crate) bytes_total: usize,
    /// Numbers trained by gradient descent per task, the mean over tasks.
    pub(crate) trained_params_per_task: usize,
    /// Trust metrics of the answers, in the scenario of occasions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trust: Option<Trust>,
}

/// All runs of an output directory.
#[derive(Debug)]
pub(crate) struct Results {
    path: PathBuf,
    pub(crate) runs: Vec<RunResult>,
}

impl RunResult {
    /// Returns the accuracy on all classes seen so far, after each task.
    pub(crate) fn trajectory(&self) -> Vec<f64> {
        let mut matrix = AccuracyMatrix::new(self.test_images.clone());
        self.matrix.iter().for_each(|row| matrix.push(row.clone()));
        matrix.trajectory()
    }

    /// Formats method and ablation as text.
    pub(crate) fn label(&self) -> String {
        match self.ablation.as_str() {
            "" => self.method.clone(),
            ablation => format!("{}, {ablation}", self.method),
        }
    }

    /// Returns true if both entries are about the same run.
    pub(crate) fn same_run(&self, other: &Self) -> bool {
        let key = |r: &Self| {
            let texts =
                (r.dataset.clone(), r.scenario.clone(), r.method.clone(), r.ablation.clone());
            // The domains determine the number of tasks: it is not part of the key.
            let tasks = if r.scenario.starts_with("dil") { 0 } else { r.tasks };
            (texts, tasks, r.order)
        };
        key(self) == key(other)
    }
}

impl Results {
    /// Reads the results of earlier starts.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{}: cannot be made", dir.display()))?;
        let path = dir.join("results.json");
        let runs = if path.exists() {
            let text = files::read(&path)?;
            serde_json::from_slice(&text).with_context(|| {
                format!("{}: no results of this program; move it away", path.display())
            })?
        } else {
            Vec::new()
        };
        Ok(Self { path, runs })
    }

    /// Adds a run, replaces an older entry of the same run, and writes the file atomically.
    pub(crate) fn push(&mut self, run: RunResult) -> Result<()> {
        self.runs.retain(|r| !r.same_run(&run));
        self.runs.push(run);
        files::write_whole(&self.path, serde_json::to_string_pretty(&self.runs)?.as_bytes())
    }
}
