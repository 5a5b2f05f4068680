//! The last block, for features that use only the class token and the mean of the patches of its
//! output.
//!
//! The second layer of the MLP, LayerScale and the sum with the block's middle are linear, so the
//! mean can be taken before them: `mean(x + s fc2(h)) = mean(x) + s fc2(mean(h))`. This leaves two
//! rows per picture for a third of the block's products, forward and backward. Up to the middle
//! every row is needed, because of the second norm and GELU; but after attention the registers and
//! the prompt are dropped.

use std::borrow::Cow;

use rayon::prelude::*;

use super::attention::attend;
use super::backward::{Asked, Found, times};
use super::split::SplitScratch;
use super::{
    Activations, BranchGradients, BranchViews, MLP_ROWS, PackedBlock, Purpose, add, even_rows,
};
use crate::side_branch::Site;

/// Rows of a picture in [`Sums`]: class token and mean of the patches.
pub(super) const SUMMED_ROWS: usize = 2;

/// The tokens of a picture that are summed: the first, and the last ones, which are its patches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summing {
    pub(super) n_tokens: usize,
    pub(super) n_patches: usize,
}

/// Class token and mean of the patches of each picture, before the second layer of the MLP.
#[derive(Debug)]
pub(super) struct Sums<S> {
    /// Between the two halves of the block: `[2 pictures, d]`.
    pub(super) middle: S,
    /// After GELU: `[2 pictures, d_mlp]`.
    pub(super) hidden: S,
}

impl Summing {
    /// Number of class token and patches.
    fn n_kept(self) -> usize {
        1 + self.n_patches
    }

    /// Returns the rows of class token and patches of each picture, without the rows between.
    fn kept(self, rows: &[f32], width: usize) -> Cow<'_, [f32]> {
        if self.n_kept() == self.n_tokens {
            return Cow::Borrowed(rows);
        }
        let patches = (self.n_tokens - self.n_patches) * width;
        let mut kept = Vec::with_capacity(rows.len());
        for picture in rows.chunks_exact(self.n_tokens * width) {
            kept.extend_from_slice(&picture[..width]);
            kept.extend_from_slice(&picture[patches..]);
        }
        Cow::Owned(kept)
    }

    /// Inverse of [`Summing::kept`], with zeros in the rows between.
    fn spread(self, kept: Vec<f32>, width: usize) -> Vec<f32> {
        if self.n_kept() == self.n_tokens {
            return kept;
        }
        let between = vec![0.0; (self.n_tokens - self.n_kept()) * width];
        let mut rows = Vec::with_capacity(kept.len() / self.n_kept() * self.n_tokens);
        for picture in kept.chunks_exact(self.n_kept() * width) {
            rows.extend_from_slice(&picture[..width]);
            rows.extend_from_slice(&between);
            rows.extend_from_slice(&picture[width..]);
        }
        rows
    }

    /// Adds kept rows to `[2 pictures, width]`. The first of them is row `first` of all pictures.
    /// They are added one after the other, so that the sums do not depend on how the rows were
    /// split.
    fn add_rows(self, first: usize, rows: &[f32], width: usize, sums: &mut [f32]) {
        for (row, values) in (first..).zip(rows.chunks_exact(width)) {
            let picture = row / self.n_kept();
            let place = row % self.n_kept();
            let sum = SUMMED_ROWS * picture + usize::from(place > 0);
            let sum = &mut sums[sum * width..][..width];
            sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
        }
    }

    /// Divides the sum of a picture's patches to get their mean. In the backward pass it turns the
    /// gradient of the mean into that of each patch.
    fn divide(self, width: usize, sums: &mut [f32]) {
        let share = 1.0 / self.n_patches as f32;
        for picture in sums.chunks_exact_mut(SUMMED_ROWS * width) {
            picture[width..].iter_mut().for_each(|sum| *sum *= share);
        }
    }

    /// Returns each picture's class row, then its other row once for each patch.
    fn each_row(self, sums: &[f32], width: usize) -> Vec<f32> {
        let mut rows = Vec::with_capacity(sums.len() / SUMMED_ROWS * self.n_kept());
        for picture in sums.chunks_exact(SUMMED_ROWS * width) {
            let (class, patch) = picture.split_at(width);
            rows.extend_from_slice(class);
            (0..self.n_patches).for_each(|_| rows.extend_from_slice(patch));
        }
        rows
    }
}

impl Sums<Vec<f32>> {
    /// Zeros for this number of pictures.
    pub(super) fn new(block: &PackedBlock, pictures: usize) -> Self {
        let zeros = |width: usize| vec![0.0; SUMMED_ROWS * pictures * width];
        Self { middle: zeros(block.d_model), hidden: zeros(block.fc2.d_in()) }
    }

    /// Splits the sums into chunks of `pictures` pictures.
    pub(super) fn chunks_mut(
        &mut self,
        block: &PackedBlock,
        pictures: usize,
    ) -> impl Iterator<Item = Sums<&mut [f32]>> {
        let rows = SUMMED_ROWS * pictures;
        let middle = self.middle.chunks_mut(rows * block.d_model);
        let hidden = self.hidden.chunks_mut(rows * block.fc2.d_in());
        middle.zip(hidden).map(|(middle, hidden)| Sums { middle, hidden })
    }

    /// Splits the sums like [`Sums::chunks_mut`], for parallel iteration.
    pub(super) fn par_chunks_mut(
        &mut self,
        block: &PackedBlock,
        pictures: usize,
    ) -> impl IndexedParallelIterator<Item = Sums<&mut [f32]>> {
        let rows = SUMMED_ROWS * pictures;
        let middle = self.middle.par_chunks_mut(rows * block.d_model);
        let hidden = self.hidden.par_chunks_mut(rows * block.fc2.d_in());
        middle.zip(hidden).map(|(middle, hidden)| Sums { middle, hidden })
    }
}

impl PackedBlock {
    /// Runs [`PackedBlock::forward`] up to the sums of the tokens.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[pictures n_tokens, d]`
    pub(super) fn forward_to_sums(
        &self,
        summing: Summing,
        tokens: &[f32],
        mut sums: Sums<&mut [f32]>,
        a: &mut Activations,
        purpose: Purpose,
    ) {
        self.queries(tokens, a);
        let shape = self.shape(summing.n_tokens);
        attend(shape, &a.qkv, &mut a.weights, &mut a.head, &mut a.heads);
        let d = self.d_model;
        let all_heads = std::mem::take(&mut a.heads);
        let tokens = summing.kept(tokens, d);
        let heads = summing.kept(&all_heads, d);
        let n_rows = tokens.len() / d;
        let rows = match purpose {
            Purpose::Inference => even_rows(n_rows, n_rows.div_ceil(MLP_ROWS)),
            Purpose::Training => n_rows,
        };
        let parts = tokens.chunks(rows * d).zip(heads.chunks(rows * d));
        for (part, (tokens, heads)) in parts.enumerate() {
            self.to_hidden(tokens, heads, a, purpose);
            self.add_to_sums(summing, part * rows, a, &mut sums);
        }
        summing.divide(d, sums.middle);
        summing.divide(self.fc2.d_in(), sums.hidden);
        a.heads = match heads {
            Cow::Borrowed(_) => all_heads,
            Cow::Owned(kept) => kept,
        };
    }

    /// Runs [`PackedBlock::forward_to_sums`] for one picture, split into `n_parts` parallel parts.
    pub(super) fn split_to_sums(
        &self,
        n_parts: usize,
        summing: Summing,
        tokens: &[f32],
        mut sums: Sums<&mut [f32]>,
        scratch: &mut SplitScratch,
    ) {
        let d = self.d_model;
        self.attend_split(n_parts, tokens, scratch);
        let tokens = summing.kept(tokens, d);
        let heads = summing.kept(&scratch.heads, d);
        let rows = SplitScratch::rows(n_parts, tokens.len() / d);
        let parts = &mut scratch.parts;
        parts.resize_with((tokens.len() / d).div_ceil(rows), Activations::default);
        let inputs = tokens.par_chunks(rows * d).zip(heads.par_chunks(rows * d));
        inputs.zip(parts.par_iter_mut()).for_each(|((tokens, heads), part)| {
            self.to_hidden(tokens, heads, part, Purpose::Inference);
        });
        for (part, a) in parts.iter().enumerate() {
            self.add_to_sums(summing, part * rows, a, &mut sums);
        }
        summing.divide(d, sums.middle);
        summing.divide(self.fc2.d_in(), sums.hidden);
    }

    fn add_to_sums(
        &self,
        summing: Summing,
        first: usize,
        a: &Activations,
        sums: &mut Sums<&mut [f32]>,
    ) {
        summing.add_rows(first, &a.middle, self.d_model, sums.middle);
        summing.add_rows(first, &a.hidden, self.fc2.d_in(), sums.hidden);
    }

    /// Class token and mean of the patches after the block: `[2 pictures, d]`.
    pub(super) fn forward_from_sums(&self, sums: &Sums<Vec<f32>>) -> Vec<f32> {
        let mut branch = Vec::new();
        let mut output = vec![0.0; sums.middle.len()];
        self.fc2.apply(&sums.hidden, &mut branch);
        add(&sums.middle, &branch, self.scale(1), &mut output);
        output
    }

    /// Backward pass of a whole batch from the block's output to the sums. Returns the gradient of
    /// the sums, with that of a mean already divided among its patches, and that of the branch of
    /// `fc2`.
    ///
    /// # Shapes
    ///
    /// - `hidden`: as in [`Sums`]
    /// - `gradient`: of class token and mean, `[2 pictures, d]`
    pub(super) fn backward_to_sums(
        &self,
        summing: Summing,
        hidden: &[f32],
        branches: &BranchViews<'_>,
        gradient: &[f32],
        asked: &Asked,
    ) -> (Sums<Vec<f32>>, BranchGradients) {
        let mut found = Found::new(branches, asked);
        let scaled = times(gradient, self.scale(1));
        found.collect(self, &[Site::Fc2], hidden, &scaled, self.d_model);
        let mut sums = Sums { middle: gradient.to_vec(), hidden: Vec::new() };
        self.fc2.apply_back(&scaled, &mut sums.hidden);
        summing.divide(self.d_model, &mut sums.middle);
        summing.divide(self.fc2.d_in(), &mut sums.hidden);
        (sums, found.in_order())
    }

    /// Backward pass from the sums to the tokens, as in [`PackedBlock::backward`].
    ///
    /// # Shapes
    ///
    /// - `tokens` and the first result: `[pictures n_tokens, d]`; only the requested rows of the
    ///   result are complete
    /// - `gradient`: of the class token and of each patch
    pub(super) fn backward_from_sums(
        &self,
        summing: Summing,
        tokens: &[f32],
        saved: &Activations,
        branches: &BranchViews<'_>,
        gradient: &Sums<&mut [f32]>,
        asked: &Asked,
    ) -> (Vec<f32>, BranchGradients) {
        let mut found = Found::new(branches, asked);
        let mut inner = summing.each_row(gradient.hidden, self.fc2.d_in());
        inner.iter_mut().zip(&saved.slope).for_each(|(g, slope)| *g *= slope);
        let mut middle = summing.each_row(gradient.middle, self.d_model);
        let heads = self.back_to_heads(saved, &inner, &mut middle, &mut found);
        let heads = summing.spread(heads, self.d_model);
        let mut middle = summing.spread(middle, self.d_model);
        self.back_to_tokens(summing.n_tokens, tokens, saved, &heads, &mut middle, &mut found);
        (middle, found.in_order())
    }
}

#[cfg(test)]
mod tests;
