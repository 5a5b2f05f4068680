//! Shared bases of F-LoRA: the subspaces of all tasks, frozen after the first task.

use std::collections::BTreeMap;

use faer::Mat;
use fmlora_models::{HalfTensorError, Place, Site, VitConfig};
use serde::{Deserialize, Serialize};

use super::{AdapterError, expect_shape};
use crate::Matrix;

/// `A_shared` and `B_shared` of one layer, each with orthonormal columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedBasis {
    /// Output directions, in order of the energy of the first task's update in them: `[d_out, r]`.
    pub a: Matrix,
    /// Input directions. Column `k` belongs to column `k` of `a`: `[d_in, r]`.
    pub b: Matrix,
}

/// The bases of all adapted layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedBases {
    rank: usize,
    by_place: BTreeMap<Place, SharedBasis>,
}

impl SharedBases {
    /// Creates bases of `rank` columns.
    pub fn new(rank: usize, by_place: BTreeMap<Place, SharedBasis>) -> Self {
        Self { rank, by_place }
    }

    /// Number of columns of each basis, `r`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The bases of each layer.
    pub fn by_place(&self) -> &BTreeMap<Place, SharedBasis> {
        &self.by_place
    }

    /// Returns the bases with directions of `more` appended, `rank` columns in all.
    pub(crate) fn extended(&self, more: &BTreeMap<Place, SharedBasis>, rank: usize) -> Self {
        let basis = |(&place, basis): (&Place, &SharedBasis)| {
            let more = &more[&place];
            let a = with_directions(&basis.a, &more.a, rank);
            (place, SharedBasis { a, b: with_directions(&basis.b, &more.b, rank) })
        };
        Self { rank, by_place: self.by_place.iter().map(basis).collect() }
    }

    /// Rounds all numbers to f16, as in files.
    pub(super) fn rounded(&self) -> Result<Self, HalfTensorError> {
        let rounded = |(&place, basis): (&Place, &SharedBasis)| {
            Ok((place, SharedBasis { a: basis.a.rounded()?, b: basis.b.rounded()? }))
        };
        let by_place = self.by_place.iter().map(rounded).collect::<Result<_, HalfTensorError>>()?;
        Ok(Self { rank: self.rank, by_place })
    }

    /// Numbers of a token, read from the shape of a layer. `None` without layers.
    pub(super) fn d_model(&self) -> Option<usize> {
        self.by_place.iter().next().map(|(place, basis)| match place.site {
            Site::Fc2 => basis.a.shape()[0],
            _ => basis.b.shape()[0],
        })
    }

    /// Size in a file, in bytes.
    pub fn n_bytes(&self) -> usize {
        let numbers = |b: &SharedBasis| b.a.values().len() + b.b.values().len();
        self.by_place.values().map(|b| 2 * numbers(b)).sum()
    }

    /// Number of parameters of a task of rank `rank`: `2 r rank` in each layer.
    pub fn n_task_numbers(&self, rank: usize) -> usize {
        2 * self.rank * rank * self.by_place.len()
    }

    /// Number of parameters of vanilla LoRA of rank `rank` in the same layers:
    /// `rank (d_in + d_out)` in each.
    pub fn n_vanilla_numbers(&self, rank: usize) -> usize {
        let widths = |b: &SharedBasis| b.a.shape()[0] + b.b.shape()[0];
        self.by_place.values().map(|b| rank * widths(b)).sum()
    }

    /// Checks the blocks and the shapes of all layers against the network.
    pub(super) fn check(&self, first: usize, vit: &VitConfig) -> Result<(), AdapterError> {
        for (&place, basis) in &self.by_place {
            if place.block < first || place.block >= vit.depth {
                return Err(AdapterError::Place { place, first, last: vit.depth - 1 });
            }
            let shape = |d: usize| [d, self.rank];
            expect_shape("A", place.to_string(), &basis.a, shape(place.site.d_out(vit)))?;
            expect_shape("B", place.to_string(), &basis.b, shape(place.site.d_in(vit)))?;
        }
        Ok(())
    }
}

/// Appends the first columns of `more` to orthonormal `columns`, made orthonormal to these, `rank`
/// columns in all.
fn with_directions(columns: &Matrix, more: &Matrix, rank: usize) -> Matrix {
    let [d, r] = columns.shape();
    let old = columns.to_faer();
    let mut new = more.to_faer();
    // The second projection removes the rounding errors of the first.
    for _ in 0..2 {
        new -= &old * (old.transpose() * &new);
    }
    let found = new.qr().compute_thin_Q();
    Matrix::from_fn(d, rank, |i, j| if j < r { columns.at(i, j) } else { found[(i, j - r)] as f32 })
}

/// Turns a learned update `down up` (`[d_in, r]`, `[r, d_out]`) into orthonormal bases and the
/// merged state `S`, so that `down up = B S^T A^T`.
///
/// `gram` is the mean of `z z^T`, `z = down^T x`, over the inputs of the layer. With
/// `gram = L L^T`, the singular vectors of `L^T up` are the output directions, in order of the
/// energy of the update in them (the ordering of E2-LoRA, arXiv:2605.27482). Input direction `k`
/// drives output direction `k` and is made orthogonal to the directions before it.
///
/// Returns `None` if `gram` has no Cholesky factor or the singular value decomposition fails.
pub(crate) fn orthonormalise(
    down: &Matrix,
    up: &Matrix,
    gram: &Matrix,
) -> Option<(SharedBasis, Matrix)> {
    let down = down.to_faer();
    let up = up.to_faer();
    let gram = gram.to_faer();
    let r = down.ncols();
    let jitter = (0..r).map(|i| gram[(i, i)]).sum::<f64>() / r as f64 * 1e-6 + 1e-12;
    let gram = Mat::from_fn(r, r, |i, j| gram[(i, j)] + if i == j { jitter } else { 0.0 });
    let factor = gram.llt(faer::Side::Lower).ok()?;
    let outputs = factor.L().transpose() * &up;
    let svd = outputs.thin_svd().ok()?;
    // down up = (down L^-T U Sigma) V^T.
    let weighted = svd.U() * svd.S();
    let turned = solve_upper(factor.L().transpose(), weighted);
    let qr = (&down * turned).qr();
    let b = qr.compute_thin_Q();
    let state = qr.thin_R().to_owned();
    // The sign of a direction is free: choose it so that the diagonal of S is positive.
    let sign = |k: usize| if state[(k, k)] < 0.0 { -1.0 } else { 1.0 };
    let b = Mat::from_fn(b.nrows(), r, |i, k| b[(i, k)] * sign(k));
    let core = Mat::from_fn(r, r, |k, j| state[(k, j)] * sign(k));
    let basis = SharedBasis { a: Matrix::from_faer(svd.V()), b: Matrix::from_faer(b.as_ref()) };
    Some((basis, Matrix::from_faer(core.transpose())))
}

/// Computes `upper^-1 right` by back substitution.
fn solve_upper(upper: faer::MatRef<'_, f64>, mut right: Mat<f64>) -> Mat<f64> {
    faer::linalg::triangular_solve::solve_upper_triangular_in_place(
        upper,
        right.as_mut(),
        faer::Par::Seq,
    );
    right
}
