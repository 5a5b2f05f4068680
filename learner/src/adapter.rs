//! F-LoRA: the sum of all tasks' changes to the network.
//!
//! Paper (arXiv:2504.08823): an adapted weight gets `dW_t = A_shared M_t N_t^T B_shared^T` with
//! `M_t`, `N_t` of `r x r` numbers for task `t`. Ours: the tasks are merged one after the other,
//! `S_t = S_{t-1} + a M_t N_t^T`. The memory of all tasks is then one `r x r` matrix a layer, and a
//! prediction after a hundred tasks costs the same as after one.

mod adapter_task;
mod shared_basis;
mod task_factors;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Device;
use fmlora_models::{HalfTensorError, Place, SideBranch, SideBranches, Site, VitConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Matrix;

pub use adapter_task::AdapterTask;
pub(crate) use shared_basis::orthonormalise;
pub use shared_basis::{SharedBases, SharedBasis};
pub use task_factors::{TaskFactors, TaskUpdate};

/// Adapted layers of a network and the rank of their shared subspaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Numbers of a layer's shared subspace, `r`.
    pub rank: usize,
    /// Adapted layers of every adapted block. Query and value are the choice of SD-LoRA
    /// (arXiv:2501.13198).
    pub sites: Vec<Site>,
    /// Tokens of the shared prompt, `m`; 0 for none.
    pub n_prompt_tokens: usize,
}

/// Shared bases and the state that tasks have learned in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    bases: Arc<SharedBases>,
    pub(crate) state: AdapterState,
}

/// State learned by all tasks so far: the part of an [`Adapter`] that changes on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterState {
    /// Merged state `S` of each layer: `[r, r]`.
    pub(crate) merged: BTreeMap<Place, Matrix>,
    /// Mean of `z z^T`, `z = B^T x`, over the pictures learned so far: `[r, r]`.
    pub(crate) grams: BTreeMap<Place, Matrix>,
    /// Number of pictures in the mean `grams`.
    pub(crate) n_seen: u64,
    /// The shared prompt `P`: `[m, d]`.
    pub(crate) prompt: Option<Matrix>,
}

/// Mismatch between an adapter and a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdapterError {
    /// A matrix of another shape.
    #[error("{what} of {place} is {found:?}, expected {expected:?}")]
    Shape {
        /// Name of the matrix.
        what: &'static str,
        /// Its layer, or the prompt.
        place: String,
        /// Shape found.
        found: [usize; 2],
        /// Shape expected.
        expected: [usize; 2],
    },
    /// A layer that the network does not have or does not adapt.
    #[error("{place} is adapted, but only blocks {first} to {last} may be")]
    Place {
        /// The layer.
        place: Place,
        /// First adapted block.
        first: usize,
        /// Last block.
        last: usize,
    },
    /// The merged state or an update has other layers than the bases.
    #[error("the merged state or an update names other layers than the bases")]
    Layers,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self { rank: 16, sites: vec![Site::Query, Site::Value], n_prompt_tokens: 0 }
    }
}

impl AdapterConfig {
    /// Returns every adapted layer of a network that is adapted from block `first` on.
    pub fn places(&self, first: usize, vit: &VitConfig) -> Vec<Place> {
        let blocks = first..vit.depth;
        blocks.flat_map(|block| self.sites.iter().map(move |&site| Place { block, site })).collect()
    }
}

impl Adapter {
    /// Creates an adapter with a zero state: no task has been learned in the bases.
    pub fn new(bases: Arc<SharedBases>, prompt: Option<Matrix>) -> Self {
        let zeros = |rank: usize| Matrix::zeros(rank, rank);
        let merged: BTreeMap<Place, Matrix> =
            bases.by_place().keys().map(|&place| (place, zeros(bases.rank()))).collect();
        let state = AdapterState { grams: merged.clone(), merged, n_seen: 0, prompt };
        Self { bases, state }
    }

    /// Returns these bases with a state that was learned elsewhere.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] if the state does not fit the bases.
    pub fn with_state(&self, state: AdapterState) -> Result<Self, AdapterError> {
        let adapter = Self { bases: Arc::clone(&self.bases), state };
        adapter.check_state()?;
        Ok(adapter)
    }

    /// The state learned in the bases.
    pub fn state(&self) -> &AdapterState {
        &self.state
    }

    /// The frozen bases.
    pub fn bases(&self) -> &Arc<SharedBases> {
        &self.bases
    }

    /// The merged state of a layer: `[r, r]`.
    pub fn merged(&self, place: Place) -> Option<&Matrix> {
        self.state.merged.get(&place)
    }

    /// The shared prompt: `[m, d]`.
    pub fn prompt(&self) -> Option<&Matrix> {
        self.state.prompt.as_ref()
    }

    /// Sizes in a file, in bytes: the bases, and the state of all tasks.
    pub fn n_bytes(&self) -> (usize, usize) {
        let state = &self.state;
        let size = |m: &Matrix| 2 * m.values().len();
        let states = state.merged.values().chain(state.grams.values()).chain(&state.prompt);
        (self.bases.n_bytes(), states.map(size).sum())
    }

    /// Returns true if no task has changed the network: the merged state is zero and there is no
    /// prompt.
    pub fn is_blank(&self) -> bool {
        let zero = |matrix: &Matrix| matrix.values().iter().all(|&v| v == 0.0);
        self.state.merged.values().all(zero) && self.state.prompt.is_none()
    }

    /// Returns the additions to the network: `B S^T A^T` for rows from the left.
    pub fn side_branches(&self, device: &Device) -> SideBranches {
        let branch = |(place, basis): (&Place, &SharedBasis)| {
            let core = self.state.merged[place].transposed().to_tensor(device);
            let up = basis.a.transposed().to_tensor(device);
            (*place, SideBranch { down: basis.b.to_tensor(device), core, up })
        };
        let branches = self.bases.by_place().iter().map(branch).collect();
        SideBranches { branches, prompt: self.state.prompt.as_ref().map(|p| p.to_tensor(device)) }
    }

    /// Checks the shapes of an update against these bases and this prompt. [`Adapter::merge`] does
    /// not check them.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] names the part that does not fit.
    pub fn check_update(&self, update: &TaskUpdate) -> Result<(), AdapterError> {
        if !update.factors.keys().eq(self.bases.by_place().keys()) {
            return Err(AdapterError::Layers);
        }
        let expected = [self.bases.rank(), update.rank];
        for (place, factors) in &update.factors {
            expect_shape("M", place.to_string(), &factors.m, expected)?;
            expect_shape("N", place.to_string(), &factors.n, expected)?;
        }
        let Some(step) = &update.prompt_step else { return Ok(()) };
        let tokens = step.shape()[0];
        let expected = match (&self.state.prompt, self.bases.d_model()) {
            (Some(prompt), _) => prompt.shape(),
            (None, d_model) => [tokens, d_model.unwrap_or(0)],
        };
        expect_shape("the step of P", "the prompt".into(), step, expected)
    }

    /// Returns the adapter with a task merged by `weight`: `S + weight * M N^T`, and the prompt
    /// moved by the same share of its step.
    #[must_use]
    pub fn merge(&self, update: &TaskUpdate, weight: f32) -> Self {
        let mut next = self.clone();
        for (place, factors) in &update.factors {
            if let Some(state) = next.state.merged.get_mut(place) {
                *state = state.plus(weight, &factors.product());
            }
        }
        match (&mut next.state.prompt, &update.prompt_step) {
            (Some(prompt), Some(step)) => *prompt = prompt.plus(weight, step),
            // The first prompt is taken whole: a scaled token has no meaning.
            (none, Some(first)) => *none = Some(first.clone()),
            (_, None) => {}
        }
        next
    }

    /// Returns everything learned so far as the update of one task: `M = S`, `N = I`.
    pub(crate) fn as_update(&self) -> TaskUpdate {
        let rank = self.bases.rank();
        let factors = |(&place, s): (&Place, &Matrix)| {
            (place, TaskFactors { m: s.clone(), n: Matrix::identity(rank) })
        };
        let factors = self.state.merged.iter().map(factors).collect();
        TaskUpdate { rank, factors, prompt_step: self.state.prompt.clone() }
    }

    /// Adds the inputs of the adapted layers on a task's pictures: the mean `z z^T` of `n`
    /// pictures.
    pub(crate) fn remember(&mut self, grams: &BTreeMap<Place, Matrix>, n: u64) {
        let state = &mut self.state;
        let total = state.n_seen.saturating_add(n);
        let share = n as f32 / total.max(1) as f32;
        for (place, gram) in &mut state.grams {
            if let Some(new) = grams.get(place) {
                *gram = Matrix::zeros(gram.shape()[0], gram.shape()[1])
                    .plus(1.0 - share, gram)
                    .plus(share, new);
            }
        }
        state.n_seen = total;
    }

    /// Checks that bases, state and prompt fit a network that is adapted from block `first` on.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] names the part that does not fit.
    pub fn check(&self, first: usize, vit: &VitConfig) -> Result<(), AdapterError> {
        self.bases.check(first, vit)?;
        self.check_state()?;
        match &self.state.prompt {
            Some(p) => expect_shape("P", "the prompt".into(), p, [p.shape()[0], vit.d_model]),
            None => Ok(()),
        }
    }

    fn check_state(&self) -> Result<(), AdapterError> {
        let r = self.bases.rank();
        let named =
            |states: &BTreeMap<Place, Matrix>| states.keys().eq(self.bases.by_place().keys());
        if !named(&self.state.merged) || !named(&self.state.grams) {
            return Err(AdapterError::Layers);
        }
        for (what, states) in [("S", &self.state.merged), ("G", &self.state.grams)] {
            for (place, state) in states {
                expect_shape(what, place.to_string(), state, [r, r])?;
            }
        }
        Ok(())
    }

    /// Returns the adapter with every number rounded to f16, as files store it.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError`] for a number that f16 cannot hold.
    pub fn rounded(&self) -> Result<Self, HalfTensorError> {
        let all = |matrices: &BTreeMap<Place, Matrix>| -> Result<_, HalfTensorError> {
            matrices.iter().map(|(&place, m)| Ok((place, m.rounded()?))).collect()
        };
        let state = AdapterState {
            merged: all(&self.state.merged)?,
            grams: all(&self.state.grams)?,
            n_seen: self.state.n_seen,
            prompt: self.state.prompt.as_ref().map(Matrix::rounded).transpose()?,
        };
        Ok(Self { bases: Arc::new(self.bases.rounded()?), state })
    }
}

pub(crate) fn expect_shape(
    what: &'static str,
    place: String,
    matrix: &Matrix,
    expected: [usize; 2],
) -> Result<(), AdapterError> {
    let found = matrix.shape();
    if found == expected {
        return Ok(());
    }
    Err(AdapterError::Shape { what, place, found, expected })
}
