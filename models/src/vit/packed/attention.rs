//! Attention of one picture, forwards and backwards.

use rten_simd::SimdOp;
use rten_vecmath::Softmax;

use super::linear::{View, product};

/// Sizes of one picture's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    pub(super) n_tokens: usize,
    pub(super) d_model: usize,
    pub(super) n_heads: usize,
}

impl AttentionShape {
    fn d_head(self) -> usize {
        self.d_model / self.n_heads
    }

    /// What the products of query and key are divided by.
    fn scale(self) -> f32 {
        (self.d_head() as f32).sqrt().recip()
    }

    /// One head of query (0), key (1) or value (2) inside `[tokens, 3 d]`.
    fn part(self, qkv: &[f32], which: usize, head: usize) -> View<'_> {
        let first = which * self.d_model + head * self.d_head();
        View::part(qkv, 3 * self.d_model, first, self.d_head())
    }

    /// One head inside `[tokens, d]`.
    fn head(self, heads: &[f32], head: usize) -> View<'_> {
        View::part(heads, self.d_model, head * self.d_head(), self.d_head())
    }
}

/// `softmax(q k^T / sqrt(d_head)) v` of each head.
///
/// # Shapes
///
/// - `qkv`: `[tokens, 3 d]`
/// - `weights`: `[heads, tokens, tokens]`
/// - `one`: scratch of one head
/// - `heads`: `[tokens, d]`
pub(super) fn attend(
    shape: AttentionShape,
    qkv: &[f32],
    weights: &mut Vec<f32>,
    one: &mut Vec<f32>,
    heads: &mut Vec<f32>,
) {
    let (n_tokens, d_model, d_head) = (shape.n_tokens, shape.d_model, shape.d_head());
    weights.resize(shape.n_heads * n_tokens * n_tokens, 0.0);
    heads.resize(n_tokens * d_model, 0.0);
    for (head, weights) in weights.chunks_exact_mut(n_tokens * n_tokens).enumerate() {
        let [q, k, v] = [0, 1, 2].map(|which| shape.part(qkv, which, head));
        product(q, k.transposed(), shape.scale(), one);
        weights.copy_from_slice(one);
        for row in weights.chunks_exact_mut(n_tokens) {
            Softmax::new_mut(row).dispatch();
        }
        product(View::new(weights, n_tokens), v, 1.0, one);
        put(one, d_head, heads, d_model, head * d_head);
    }
}

/// The gradient of query, key and value from that of the heads.
///
/// # Shapes
///
/// - `qkv` and `gradient`: `[tokens, 3 d]`
/// - `weights`: `[heads, tokens, tokens]`
/// - `heads`: gradient, `[tokens, d]`
pub(super) fn attend_back(
    shape: AttentionShape,
    qkv: &[f32],
    weights: &[f32],
    heads: &[f32],
    gradient: &mut Vec<f32>,
) {
    let (n_tokens, d_model, d_head) = (shape.n_tokens, shape.d_model, shape.d_head());
    gradient.resize(3 * n_tokens * d_model, 0.0);
    let (mut one, mut inner) = (Vec::new(), Vec::new());
    for (head, weights) in weights.chunks_exact(n_tokens * n_tokens).enumerate() {
        let [q, k, v] = [0, 1, 2].map(|which| shape.part(qkv, which, head));
        let (of_head, weights) = (shape.head(heads, head), View::new(weights, n_tokens));
        let mut put = |values: &[f32], which: usize| {
            put(values, d_head, gradient, 3 * d_model, which * d_model + head * d_head);
        };
        product(weights.transposed(), of_head, 1.0, &mut one);
        put(&one, 2);
        product(of_head, v.transposed(), 1.0, &mut inner);
        // Through the softmax: w * (g - sum(w g)).
        for (g, w) in inner.chunks_exact_mut(n_tokens).zip(weights.data.chunks_exact(n_tokens)) {
            let along: f32 = g.iter().zip(w).map(|(g, w)| g * w).sum();
            g.iter_mut().zip(w).for_each(|(g, w)| *g = w * (*g - along));
        }
        let inner = View::new(&inner, n_tokens);
        product(inner, k, shape.scale(), &mut one);
        put(&one, 0);
        product(inner.transposed(), q, shape.scale(), &mut one);
        put(&one, 1);
    }
}

/// Puts rows of `columns` numbers into columns of a wider matrix.
fn put(values: &[f32], columns: usize, target: &mut [f32], width: usize, first: usize) {
    for (values, row) in values.chunks_exact(columns).zip(target.chunks_exact_mut(width)) {
        row[first..][..columns].copy_from_slice(values);
    }
}
