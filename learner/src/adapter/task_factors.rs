//! The matrices that one task adds: `M_t` and `N_t`.

use std::collections::BTreeMap;

use fmlora_models::{HalfTensorError, Place};
use serde::{Deserialize, Serialize};

use crate::Matrix;

/// First `r_t` columns of `M_t` and `N_t` of one layer. The other columns are masked and not
/// stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskFactors {
    /// `[r, r_t]`
    pub m: Matrix,
    /// `[r, r_t]`
    pub n: Matrix,
}

/// Result of the training of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskUpdate {
    /// Chosen rank `r_t`.
    pub rank: usize,
    /// Factors of each layer.
    pub factors: BTreeMap<Place, TaskFactors>,
    /// Change of the prompt: `[m, d]`.
    pub prompt_step: Option<Matrix>,
}

impl TaskFactors {
    /// `M_t N_t^T`: `[r, r]`.
    pub fn product(&self) -> Matrix {
        self.m.times_transposed(&self.n)
    }
}

impl TaskUpdate {
    /// Returns the update with every number rounded to f16, as files store it.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError`] for a number that f16 cannot hold.
    pub fn rounded(&self) -> Result<Self, HalfTensorError> {
        let rounded = |(&place, factors): (&Place, &TaskFactors)| {
            Ok((place, TaskFactors { m: factors.m.rounded()?, n: factors.n.rounded()? }))
        };
        Ok(Self {
            rank: self.rank,
            factors: self.factors.iter().map(rounded).collect::<Result<_, HalfTensorError>>()?,
            prompt_step: self.prompt_step.as_ref().map(Matrix::rounded).transpose()?,
        })
    }

    /// Size in a file, in bytes.
    pub fn n_bytes(&self) -> usize {
        let factors = self.factors.values().flat_map(|f| [&f.m, &f.n]);
        factors.chain(&self.prompt_step).map(|m| 2 * m.values().len()).sum()
    }
}
