//! One picture on all cores: its tokens are split among them, for the single pictures of a camera.

use rayon::prelude::*;

use super::attention::{AttentionShape, attend_head, put};
use super::{Activations, PackedBlock, Purpose, even_rows};

/// Rows of a product below which splitting it costs more than it saves.
const ROWS: usize = 12;

/// Scratch of each part of the tokens and of the whole picture; reused for one picture after the
/// other.
#[derive(Debug, Default)]
pub(super) struct SplitScratch {
    pub(super) parts: Vec<Activations>,
    qkv: Vec<f32>,
    pub(super) heads: Vec<f32>,
}

impl SplitScratch {
    /// Returns the number of rows of each part of a picture.
    pub(super) fn rows(n_parts: usize, n_rows: usize) -> usize {
        even_rows(n_rows, (n_rows / ROWS).clamp(1, n_parts))
    }
}

impl PackedBlock {
    /// Runs [`PackedBlock::forward`] for one picture, split into `n_parts` parallel parts.
    ///
    /// # Shapes
    ///
    /// - `tokens` and `output`: `[tokens, d]`
    pub(super) fn forward_split(
        &self,
        n_parts: usize,
        tokens: &[f32],
        output: &mut [f32],
        scratch: &mut SplitScratch,
    ) {
        let d = self.d_model;
        self.attend_split(n_parts, tokens, scratch);
        let SplitScratch { parts, heads, .. } = scratch;
        let rows = SplitScratch::rows(n_parts, tokens.len() / d);
        let ends = tokens.par_chunks(rows * d).zip(output.par_chunks_mut(rows * d));
        let ends = ends.zip(heads.par_chunks(rows * d)).zip(parts);
        ends.for_each(|(((tokens, output), heads), part)| {
            self.after_attention(tokens, heads, output, part, Purpose::Inference);
        });
    }

    /// Computes the block up to the output of the heads, into `scratch.heads`.
    pub(super) fn attend_split(&self, n_parts: usize, tokens: &[f32], scratch: &mut SplitScratch) {
        let d = self.d_model;
        let shape = self.shape(tokens.len() / d);
        let rows = SplitScratch::rows(n_parts, shape.n_tokens);
        let SplitScratch { parts, qkv, heads } = scratch;
        parts.resize_with(shape.n_tokens.div_ceil(rows), Activations::default);

        let inputs = parts.par_iter_mut().zip(tokens.par_chunks(rows * d));
        inputs.for_each(|(part, tokens)| self.queries(tokens, part));
        qkv.clear();
        for part in &*parts {
            qkv.extend(&part.qkv);
        }

        let each = (0..shape.n_heads).into_par_iter().map(|head| one_head(shape, qkv, head));
        let each: Vec<Vec<f32>> = each.collect();
        heads.resize(tokens.len(), 0.0);
        let d_head = shape.d_head();
        each.iter().enumerate().for_each(|(head, one)| put(one, d_head, heads, d, head * d_head));
    }
}

/// Output of one head: `[tokens, d / heads]`.
fn one_head(shape: AttentionShape, qkv: &[f32], head: usize) -> Vec<f32> {
    let mut weights = vec![0.0; shape.n_tokens * shape.n_tokens];
    let mut one = Vec::new();
    attend_head(shape, qkv, head, &mut weights, &mut one);
    one
}
