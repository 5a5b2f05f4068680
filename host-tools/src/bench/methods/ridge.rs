//! Ridge regression to class labels on frozen features, plain or after a random projection.
//!
//! `RanPAC` (arXiv:2307.02251) without its first-task adapter: `phi = ReLU(x R)`, `G = sum phi
//! phi^T`, `Q = sum phi y^T`, `W = (G + lambda I)^-1 Q`. As there, `lambda` is chosen at every task
//! by the squared error on a fifth of its pictures.

use anyhow::{Context, Result};
use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Par, Side};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};

use super::{Learned, Method, World};
use crate::bench::stream::TaskRows;

/// Candidate regularisers. The features are layer-normalised, which fixes their scale; smaller ones
/// were never chosen.
const LAMBDAS: [f32; 6] = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// One of this many pictures of a task is held out to choose the regulariser.
const HELD_OUT: usize = 5;

/// Sums over all pictures, and the head of the last task.
pub(super) struct Ridge {
    /// `[d, M]`; `None` for plain ridge.
    projection: Option<Mat<f32>>,
    gram: Mat<f32>,
    /// `[M, classes]`
    targets: Mat<f32>,
    /// Labels in the order of the columns of `targets`.
    labels: Vec<usize>,
    head: Mat<f32>,
    /// Index of the last regulariser in [`LAMBDAS`].
    chosen: usize,
    seed: u64,
}

impl Ridge {
    pub(super) fn plain(d: usize) -> Self {
        Self {
            projection: None,
            gram: Mat::zeros(d, d),
            targets: Mat::zeros(d, 0),
            labels: Vec::new(),
            head: Mat::new(),
            chosen: LAMBDAS.len() / 2,
            seed: 0,
        }
    }

    pub(super) fn random(d: usize, m: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let normal: Vec<f32> = (0..d * m).map(|_| StandardNormal.sample(&mut rng)).collect();
        let projection = Mat::from_fn(d, m, |i, j| normal[j * d + i]);
        Self { projection: Some(projection), seed, ..Self::plain(m) }
    }

    /// Computes `phi` of some features: `[rows, M]`.
    fn expanded(&self, features: &[Vec<f32>], rows: &[usize]) -> Mat<f32> {
        let plain = Mat::from_fn(rows.len(), features[0].len(), |i, j| features[rows[i]][j]);
        let Some(projection) = &self.projection else { return plain };
        let mut phi = Mat::zeros(rows.len(), projection.ncols());
        matmul(&mut phi, Accum::Replace, &plain, projection, 1.0, Par::rayon(0));
        for column in phi.col_iter_mut() {
            column.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        phi
    }

    fn add(&mut self, phi: &Mat<f32>, y: &Mat<f32>) {
        matmul(&mut self.gram, Accum::Add, phi.transpose(), phi, 1.0, Par::rayon(0));
        matmul(&mut self.targets, Accum::Add, phi.transpose(), y, 1.0, Par::rayon(0));
    }

    fn solve(&self, lambda: f32) -> Option<Mat<f32>> {
        let mut a = self.gram.clone();
        for i in 0..a.nrows() {
            a[(i, i)] += lambda;
        }
        Some(a.llt(Side::Lower).ok()?.solve(&self.targets))
    }

    /// Adds columns for labels that were not seen before.
    fn make_room(&mut self, classes: &[usize]) {
        let new: Vec<usize> =
            classes.iter().copied().filter(|c| !self.labels.contains(c)).collect();
        self.labels.extend(new);
        let old = std::mem::replace(&mut self.targets, Mat::new());
        self.targets = Mat::from_fn(self.gram.nrows(), self.labels.len(), |i, j| {
            if j < old.ncols() { old[(i, j)] } else { 0.0 }
        });
    }
}

impl Method for Ridge {
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned> {
        let before = self.n_bytes();
        self.make_room(&task.classes);
        let train = &world.arena.prepared.train;
        let mut rows = task.train.clone();
        rows.shuffle(&mut StdRng::seed_from_u64(self.seed ^ self.labels.len() as u64));
        let (held_out, rest) = rows.split_at(rows.len() / HELD_OUT);
        let one_hot = |rows: &[usize], labels: &[usize]| {
            Mat::from_fn(rows.len(), labels.len(), |i, j| {
                f32::from(u8::from(train.labels[rows[i]] == labels[j]))
            })
        };
        let rest = train.rows(rest, task.views);
        self.add(&self.expanded(&train.features, &rest), &one_hot(&rest, &self.labels));
        let phi = self.expanded(&train.features, held_out);
        let y = one_hot(held_out, &self.labels);
        let error = |place: usize| match self.solve(LAMBDAS[place]) {
            Some(head) => {
                let mut error = y.clone();
                matmul(&mut error, Accum::Add, &phi, &head, -1.0, Par::rayon(0));
                f64::from(error.squared_norm_l2())
            }
            None => f64::INFINITY,
        };
        self.chosen = lowest(self.chosen, LAMBDAS.len(), error);
        let held_out = train.rows(held_out, task.views);
        self.add(&self.expanded(&train.features, &held_out), &one_hot(&held_out, &self.labels));
        let head = self.solve(LAMBDAS[self.chosen]);
        self.head = head.context("no regulariser makes the Gram matrix definite")?;
        Ok(Learned { n_bytes: self.n_bytes().saturating_sub(before), ..Learned::default() })
    }

    fn labels(&self, _: &World<'_>) -> Result<Vec<usize>> {
        Ok(self.labels.clone())
    }

    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let phi = self.expanded(&world.arena.prepared.test.features, rows);
        let mut scores = Mat::zeros(rows.len(), self.labels.len());
        matmul(&mut scores, Accum::Replace, &phi, &self.head, 1.0, Par::rayon(0));
        let of_picture = |i: usize| (0..self.labels.len()).map(|j| scores[(i, j)]).collect();
        Ok((0..rows.len()).map(of_picture).collect())
    }

    fn n_bytes(&self) -> usize {
        // The projection is not stored: it follows from its seed.
        let m = self.gram.nrows();
        size_of::<f32>() * (m * m + m * self.labels.len())
    }
}

/// Returns the index of the lowest of `n` values with a single valley, by a walk from `start`.
/// Regularisers that do not make the matrix definite have an infinite value and are at the lower
/// end: the walk leaves them upwards.
fn lowest(start: usize, n: usize, value: impl Fn(usize) -> f64) -> usize {
    let mut known = vec![None; n];
    let mut at = |place: usize| *known[place].get_or_insert_with(|| value(place));
    let mut place = start;
    loop {
        let above = (place + 1 < n && at(place + 1) <= at(place)).then(|| place + 1);
        let below = || (place > 0 && at(place - 1) < at(place)).then(|| place - 1);
        match above.or_else(below) {
            Some(lower) => place = lower,
            None => return place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_ends_in_the_valley_from_anywhere() {
        let values = [f64::INFINITY, f64::INFINITY, 9.0, 4.0, 5.0, 6.0];
        for start in 0..values.len() {
            assert_eq!(lowest(start, values.len(), |place| values[place]), 3);
        }
    }
}
