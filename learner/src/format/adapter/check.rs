//! Checks that the parts of an adapter fit together.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{AdapterFile, AdapterFileError};
use crate::{AdapterTask, MAX_CLASSES};

/// Largest number of values of a feature, and of a token.
const MAX_WIDTH: usize = 1 << 16;

/// Largest rank of shared bases.
const MAX_RANK: usize = 1024;

/// Largest number of rows of the scatter: the work of a device grows with the square of it.
const MAX_ROWS: usize = 4096;

/// Largest number of tokens of a prompt.
const MAX_PROMPT: usize = 1024;

fn wrong(what: &'static str, found: impl Display, expected: impl Display) -> AdapterFileError {
    let found = found.to_string();
    let expected = expected.to_string();
    AdapterFileError::Inconsistent { what, found, expected }
}

fn shape(shape: [usize; 2]) -> String {
    format!("{} x {}", shape[0], shape[1])
}

impl AdapterFile {
    /// Length of a feature.
    pub fn d_feature(&self) -> usize {
        self.summary.d_feature()
    }

    pub(super) fn check(&self) -> Result<(), AdapterFileError> {
        let d = self.d_feature();
        if !(1..=MAX_WIDTH).contains(&d) {
            return Err(wrong("the length of a feature", d, format!("1 to {MAX_WIDTH}")));
        }
        self.check_summary()?;
        self.check_measures()?;
        let moved = self.facts.space_before != self.facts.space_after;
        match &self.task {
            None if moved => Err(wrong(
                "the change of the network",
                "missing",
                "one, as the feature space changes",
            )),
            None if self.drift.is_some() => {
                Err(wrong("the drift map", "there", "none, as nothing changes in the network"))
            }
            None => Ok(()),
            Some(_) if !moved => Err(wrong(
                "the feature space after",
                "that before",
                "another one, as the network changes",
            )),
            Some(task) => check_task(task, self.rank),
        }?;
        match &self.drift {
            Some(drift) if !drift.fits(d) => {
                Err(wrong("the drift map", "of another size", format!("one for {d} numbers")))
            }
            _ => Ok(()),
        }
    }

    fn check_summary(&self) -> Result<(), AdapterFileError> {
        let d = self.d_feature();
        let classes = &self.summary.classes;
        if !(1..=MAX_CLASSES).contains(&classes.len()) {
            return Err(wrong(
                "the number of classes",
                classes.len(),
                format!("1 to {MAX_CLASSES}"),
            ));
        }
        let mut keys = BTreeSet::new();
        for class in classes {
            if !keys.insert(class.name.key()) {
                return Err(wrong("a class", format!("{:?} twice", class.name.as_str()), "once"));
            }
            if class.count == 0 {
                return Err(wrong("the number of shots of a class", 0, "at least 1"));
            }
            if !class.energy.is_finite() || class.energy < 0.0 {
                return Err(wrong("the energy of a class", class.energy, "a number not below 0"));
            }
            if class.mean.shape() != [1, d] {
                return Err(wrong("a mean", shape(class.mean.shape()), shape([1, d])));
            }
        }
        let floor = self.summary.floor;
        if !floor.is_finite() || floor < 0.0 {
            return Err(wrong("the floor of the scatter", floor, "a number not below 0"));
        }
        if self.summary.scatter.len() > MAX_ROWS {
            let found = self.summary.scatter.len();
            return Err(wrong("the rows of the scatter", found, format!("at most {MAX_ROWS}")));
        }
        if !self.summary.scatter.fits(None, d) {
            return Err(wrong(
                "the scatter",
                "of another size",
                format!("finite rows of {d} numbers"),
            ));
        }
        Ok(())
    }

    fn check_measures(&self) -> Result<(), AdapterFileError> {
        let shares =
            [self.complexity.difficulty, self.complexity.novelty, self.complexity.evidence];
        let accuracies = self.accuracy.iter().flat_map(|a| [a.with, a.without].map(f64::from));
        // `contains` is false for NaN.
        if let Some(odd) = shares.into_iter().chain(accuracies).find(|s| !(0.0..=1.0).contains(s)) {
            return Err(wrong("a share among complexity and accuracy", odd, "0 to 1"));
        }
        if self.rank as usize > MAX_RANK {
            return Err(wrong("the rank", self.rank, format!("at most {MAX_RANK}")));
        }
        if !self.known_answer.fits(self.d_feature()) {
            return Err(wrong("the known answer", "of another size", "64 numbers at most"));
        }
        Ok(())
    }
}

fn check_task(task: &AdapterTask, rank: u32) -> Result<(), AdapterFileError> {
    // Rank of a layer's shared subspace, read off the rows of the factors.
    let r = task.update.factors.values().next().map_or(0, |factors| factors.m.shape()[0]);
    let r_t = task.update.rank;
    if !(1..=MAX_RANK).contains(&r) {
        return Err(wrong("the rank of the shared bases", r, format!("1 to {MAX_RANK}")));
    }
    if r_t != rank as usize || !(1..=r).contains(&r_t) {
        return Err(wrong("the rank of the factors", r_t, format!("{rank}, in 1 to {r}")));
    }
    if !(task.weight > 0.0 && task.weight <= 1.0) {
        return Err(wrong("the weight of the merge", task.weight, "more than 0, at most 1"));
    }
    if task.n_pictures == 0 {
        return Err(wrong("the number of pictures learnt", 0, "at least 1"));
    }
    if !task.grams.keys().eq(task.update.factors.keys()) {
        return Err(wrong("the layers of the grams", "others", "those of the factors"));
    }
    for factors in task.update.factors.values() {
        for found in [factors.m.shape(), factors.n.shape()] {
            if found != [r, r_t] {
                return Err(wrong("a factor", shape(found), shape([r, r_t])));
            }
        }
    }
    for gram in task.grams.values() {
        if gram.shape() != [r, r] {
            return Err(wrong("a gram", shape(gram.shape()), shape([r, r])));
        }
    }
    if let Some(step) = &task.update.prompt_step {
        let [m, d] = step.shape();
        if !(1..=MAX_PROMPT).contains(&m) || !(1..=MAX_WIDTH).contains(&d) {
            let expected = format!("1 to {MAX_PROMPT} tokens of 1 to {MAX_WIDTH} numbers");
            return Err(wrong("the step of the prompt", shape([m, d]), expected));
        }
    }
    Ok(())
}
