//! Side branches: low-rank additions to the linear layers of the suffix, and prompt tokens at its
//! start.
//!
//! A learner changes the computation of the frozen network only through side branches. The network
//! has no notion of tasks or classes.

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::VitConfig;

/// A linear layer of a block that can have a side branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Site {
    /// The query third of `attn.qkv`.
    Query,
    /// The key third of `attn.qkv`.
    Key,
    /// The value third of `attn.qkv`.
    Value,
    /// `attn.proj`.
    Proj,
    /// `mlp.fc1`.
    Fc1,
    /// `mlp.fc2`.
    Fc2,
}

/// Position of one linear layer in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Block, counted from 0.
    pub block: usize,
    /// Layer of that block.
    pub site: Site,
}

/// A low-rank addition to a linear layer: `y = x W + b + ((x down) core) up`.
///
/// # Shapes
///
/// - `down`: `[d_in, r]`
/// - `core`: `[r, r]`
/// - `up`: `[r, d_out]`
#[derive(Debug, Clone)]
pub struct SideBranch {
    /// Maps the layer's input to `r` numbers.
    pub down: Tensor<2>,
    /// Maps the `r` numbers to `r` numbers.
    pub core: Tensor<2>,
    /// Maps `r` numbers to the layer's output.
    pub up: Tensor<2>,
}

/// All additions to a suffix.
#[derive(Debug, Clone, Default)]
pub struct SideBranches {
    /// Branches by layer. Branches before the first adapted block have no effect.
    pub branches: BTreeMap<Place, SideBranch>,
    /// Prompt tokens, inserted after the class token and the registers before the first adapted
    /// block: `[m, d]`. They take part in attention, but not in the mean of the patches.
    pub prompt: Option<Tensor<2>>,
}

/// Callback that receives the input of each side branch in its `r` coordinates: the layer and
/// `x down`, `[rows, r]`.
pub type Observer<'a> = &'a mut dyn FnMut(Place, Tensor<2>);

impl Site {
    /// All sites, in the order in which a block computes them.
    pub const ALL: [Self; 6] =
        [Self::Query, Self::Key, Self::Value, Self::Proj, Self::Fc1, Self::Fc2];

    /// Width of the layer's input.
    pub fn d_in(self, config: &VitConfig) -> usize {
        if self == Self::Fc2 { config.d_mlp } else { config.d_model }
    }

    /// Width of the layer's output.
    pub fn d_out(self, config: &VitConfig) -> usize {
        if self == Self::Fc1 { config.d_mlp } else { config.d_model }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Query => "query",
            Self::Key => "key",
            Self::Value => "value",
            Self::Proj => "proj",
            Self::Fc1 => "fc1",
            Self::Fc2 => "fc2",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} {}", self.block, self.site)
    }
}

impl SideBranch {
    /// Returns the branch's addition to the layer's weight: `[d_in, d_out]`.
    pub fn delta(&self) -> Tensor<2> {
        self.down.clone().matmul(self.core.clone()).matmul(self.up.clone())
    }
}

/// The additions to one block, in a forward pass with an optional observer.
pub(crate) struct BlockBranches<'a, 'o> {
    pub(crate) block: usize,
    pub(crate) all: &'a SideBranches,
    pub(crate) observer: Option<Observer<'o>>,
}

impl BlockBranches<'_, '_> {
    /// Returns the addition of a layer's branch to its output: `[batch, tokens, d_out]`.
    pub(crate) fn addition(&mut self, site: Site, input: &Tensor<3>) -> Option<Tensor<3>> {
        let place = Place { block: self.block, site };
        let branch = self.all.branches.get(&place)?;
        let [batch, n_tokens, d_in] = input.dims();
        // Rows instead of batches: one product in all instead of one per picture.
        let rows = input.clone().reshape([batch * n_tokens, d_in]);
        let inner = rows.matmul(branch.down.clone());
        if let Some(observer) = &mut self.observer {
            observer(place, inner.clone());
        }
        // The small product first: [r, r] by [r, d_out].
        let up = branch.core.clone().matmul(branch.up.clone());
        let d_out = up.dims()[1];
        Some(inner.matmul(up).reshape([batch, n_tokens, d_out]))
    }

    /// Returns `output` plus the addition of a layer's branch.
    pub(crate) fn added(&mut self, site: Site, input: &Tensor<3>, output: Tensor<3>) -> Tensor<3> {
        match self.addition(site, input) {
            Some(addition) => output + addition,
            None => output,
        }
    }
}
