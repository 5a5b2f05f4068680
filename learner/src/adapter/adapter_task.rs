//! A task in the form in which another device can merge it.

use std::collections::BTreeMap;

use fmlora_models::{HalfTensorError, Place};
use serde::{Deserialize, Serialize};

use super::{Adapter, TaskUpdate};
use crate::Matrix;

/// `M_t` and `N_t`, the weight of their merge, and the grams that later tasks need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterTask {
    /// First `r_t` columns of `M_t` and `N_t` of each layer, and the step of the prompt.
    pub update: TaskUpdate,
    /// Weight `a` of the merge, `S + a M N^T`.
    pub weight: f32,
    /// Mean of `z z^T`, `z = B^T x`, over the task's pictures: `[r, r]` a layer.
    pub grams: BTreeMap<Place, Matrix>,
    /// Number of pictures in the mean `grams`.
    pub n_pictures: u32,
}

impl AdapterTask {
    /// Returns the task with every number rounded to f16, as files store it.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError`] for a number that f16 cannot hold.
    pub fn rounded(&self) -> Result<Self, HalfTensorError> {
        let rounded = |(&place, gram): (&Place, &Matrix)| Ok((place, gram.rounded()?));
        Ok(Self {
            update: self.update.rounded()?,
            weight: self.weight,
            grams: self.grams.iter().map(rounded).collect::<Result<_, HalfTensorError>>()?,
            n_pictures: self.n_pictures,
        })
    }
}

impl Adapter {
    /// Returns the adapter after a task that [fits](Adapter::check_update), rounded to f16 as files
    /// store it.
    ///
    /// The result is the same to the bit on every processor: sums of f32 in one order, then rounded
    /// to f16.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError`] for a number that f16 cannot hold.
    pub fn with_task(&self, task: &AdapterTask) -> Result<Self, HalfTensorError> {
        let mut next = self.merge(&task.update, task.weight);
        next.remember(&task.grams, u64::from(task.n_pictures));
        next.rounded()
    }
}
