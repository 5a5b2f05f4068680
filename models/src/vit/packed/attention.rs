//! Attention of a few pictures, forward and backward.

use rten_simd::SimdOp;
use rten_vecmath::Softmax;

use super::linear::{View, product};

/// Sizes of each picture's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    pub(super) n_tokens: usize,
    pub(super) d_model: usize,
    pub(super) n_heads: usize,
}

impl AttentionShape {
    pub(super) fn d_head(self) -> usize {
        self.d_model / self.n_heads
    }

    /// Factor of the products of query and key.
    fn scale(self) -> f32 {
        (self.d_head() as f32).sqrt().recip()
    }

    /// Length of one picture in `[pictures n_tokens, width]`.
    fn picture(self, width: usize) -> usize {
        self.n_tokens * width
    }

    /// Length of one picture's attention weights, of all heads.
    fn weights(self) -> usize {
        self.n_heads * self.n_tokens * self.n_tokens
    }

    /// One head of query (0), key (1) or value (2) in `[n_tokens, 3 d]`.
    fn part(self, qkv: &[f32], which: usize, head: usize) -> View<'_> {
        let first = which * self.d_model + head * self.d_head();
        View::part(qkv, 3 * self.d_model, first, self.d_head())
    }

    /// One head in `[n_tokens, d]`.
    fn head(self, heads: &[f32], head: usize) -> View<'_> {
        View::part(heads, self.d_model, head * self.d_head(), self.d_head())
    }
}

/// Computes `softmax(q k^T / sqrt(d_head)) v` for each head.
///
/// # Shapes
///
/// - `qkv`: `[pictures n_tokens, 3 d]`
/// - `weights`: `[pictures, heads, n_tokens, n_tokens]`
/// - `one`: scratch of one head
/// - `heads`: `[pictures n_tokens, d]`
pub(super) fn attend(
    shape: AttentionShape,
    qkv: &[f32],
    weights: &mut Vec<f32>,
    one: &mut Vec<f32>,
    heads: &mut Vec<f32>,
) {
    let AttentionShape { n_tokens, d_model, .. } = shape;
    let d_head = shape.d_head();
    let pictures = qkv.chunks_exact(shape.picture(3 * d_model));
    weights.resize(pictures.len() * shape.weights(), 0.0);
    heads.resize(pictures.len() * shape.picture(d_model), 0.0);
    let weights = weights.chunks_exact_mut(shape.weights());
    let heads = heads.chunks_exact_mut(shape.picture(d_model));
    for ((qkv, weights), heads) in pictures.zip(weights).zip(heads) {
        for (head, weights) in weights.chunks_exact_mut(n_tokens * n_tokens).enumerate() {
            attend_head(shape, qkv, head, weights, one);
            put(one, d_head, heads, d_model, head * d_head);
        }
    }
}

/// Computes one head of one picture: its attention, `[n_tokens, n_tokens]`, and its output,
/// `[n_tokens, d / heads]`.
pub(super) fn attend_head(
    shape: AttentionShape,
    qkv: &[f32],
    head: usize,
    weights: &mut [f32],
    one: &mut Vec<f32>,
) {
    let [q, k, v] = [0, 1, 2].map(|which| shape.part(qkv, which, head));
    product(q, k.transposed(), shape.scale(), one);
    weights.copy_from_slice(one);
    for row in weights.chunks_exact_mut(shape.n_tokens) {
        Softmax::new_mut(row).dispatch();
    }
    product(View::new(weights, shape.n_tokens), v, 1.0, one);
}

/// Computes the gradient of query, key and value from that of the heads.
///
/// # Shapes
///
/// - `qkv` and `gradient`: `[pictures n_tokens, 3 d]`
/// - `weights`: `[pictures, heads, n_tokens, n_tokens]`
/// - `heads`: gradient, `[pictures n_tokens, d]`
pub(super) fn attend_back(
    shape: AttentionShape,
    qkv: &[f32],
    weights: &[f32],
    heads: &[f32],
    gradient: &mut Vec<f32>,
) {
    let d_model = shape.d_model;
    gradient.resize(qkv.len(), 0.0);
    let mut scratch = Default::default();
    let pictures = qkv.chunks_exact(shape.picture(3 * d_model));
    let weights = weights.chunks_exact(shape.weights());
    let heads = heads.chunks_exact(shape.picture(d_model));
    let gradients = gradient.chunks_exact_mut(shape.picture(3 * d_model));
    for (((qkv, weights), heads), gradient) in pictures.zip(weights).zip(heads).zip(gradients) {
        picture_back(shape, qkv, weights, heads, gradient, &mut scratch);
    }
}

/// Computes the gradients for one picture, with scratch of one head.
fn picture_back(
    shape: AttentionShape,
    qkv: &[f32],
    weights: &[f32],
    heads: &[f32],
    gradient: &mut [f32],
    [one, inner]: &mut [Vec<f32>; 2],
) {
    let AttentionShape { n_tokens, d_model, .. } = shape;
    let d_head = shape.d_head();
    for (head, weights) in weights.chunks_exact(n_tokens * n_tokens).enumerate() {
        let [q, k, v] = [0, 1, 2].map(|which| shape.part(qkv, which, head));
        let of_head = shape.head(heads, head);
        let weights = View::new(weights, n_tokens);
        let mut put = |values: &[f32], which: usize| {
            put(values, d_head, gradient, 3 * d_model, which * d_model + head * d_head);
        };
        product(weights.transposed(), of_head, 1.0, one);
        put(one, 2);
        product(of_head, v.transposed(), 1.0, inner);
        // Through the softmax: w * (g - sum(w g)).
        for (g, w) in inner.chunks_exact_mut(n_tokens).zip(weights.data.chunks_exact(n_tokens)) {
            let along: f32 = g.iter().zip(w).map(|(g, w)| g * w).sum();
            g.iter_mut().zip(w).for_each(|(g, w)| *g = w * (*g - along));
        }
        let inner = View::new(inner, n_tokens);
        product(inner, k, shape.scale(), one);
        put(one, 0);
        product(inner.transposed(), q, shape.scale(), one);
        put(one, 1);
    }
}

/// Copies rows of `columns` numbers into columns of a wider matrix.
pub(super) fn put(values: &[f32], columns: usize, target: &mut [f32], width: usize, first: usize) {
    for (values, row) in values.chunks_exact(columns).zip(target.chunks_exact_mut(width)) {
        row[first..][..columns].copy_from_slice(values);
    }
}
