//! Layer norm and GELU, forward and backward, row by row.

use burn::nn::LayerNorm;
use rten_simd::SimdUnaryOp;
use rten_vecmath::{Erf, Exp};

use super::linear::numbers;
use crate::LAYER_NORM_EPS;

/// Gain and bias of a layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

/// Mean and reciprocal deviation of a token before it is normalised.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    mean: f32,
    /// Reciprocal of the deviation.
    scale: f32,
}

/// Number of partial sums: as many as the widest registers have lanes.
const LANES: usize = 16;

impl Norm {
    pub(super) fn new(norm: &LayerNorm) -> Self {
        let gain = numbers(norm.gamma.val());
        let bias = norm.beta.as_ref().map_or_else(|| vec![0.0; gain.len()], |b| numbers(b.val()));
        Self { gain, bias }
    }

    /// Normalises each token, and stores its mean and deviation in `standing`.
    ///
    /// # Shapes
    ///
    /// - `tokens` and `output`: `[tokens, d]`
    pub(super) fn apply(
        &self,
        tokens: &[f32],
        output: &mut Vec<f32>,
        standing: &mut Vec<Standing>,
    ) {
        standing.clear();
        standing.extend(tokens.chunks_exact(self.gain.len()).map(Standing::of));
        self.again(tokens, standing, output);
    }

    /// Computes the output of [`Norm::apply`] again from `standing`.
    pub(super) fn again(&self, tokens: &[f32], standing: &[Standing], output: &mut Vec<f32>) {
        let d = self.gain.len();
        output.resize(tokens.len(), 0.0);
        let rows = output.chunks_exact_mut(d).zip(tokens.chunks_exact(d)).zip(standing);
        for ((output, token), at) in rows {
            let terms = output.iter_mut().zip(token).zip(self.gain.iter().zip(&self.bias));
            terms.for_each(|((o, x), (g, b))| *o = (x - at.mean) * at.scale * g + b);
        }
    }

    /// Adds the gradient of the norm's input to `sum`: with `x'` the normalised token and
    /// `h = gradient * gain`, `(h - mean(h) - x' mean(h x')) / deviation`.
    ///
    /// # Shapes
    ///
    /// - `tokens`, `gradient`, `sum`: `[tokens, d]`
    pub(super) fn back(
        &self,
        tokens: &[f32],
        standing: &[Standing],
        gradient: &[f32],
        sum: &mut [f32],
    ) {
        let d = self.gain.len();
        let rows = tokens.chunks_exact(d).zip(gradient.chunks_exact(d));
        let mut scaled = vec![0.0; d];
        for ((token, gradient), (sum, at)) in rows.zip(sum.chunks_exact_mut(d).zip(standing)) {
            let terms = scaled.iter_mut().zip(gradient.iter().zip(&self.gain));
            terms.for_each(|(s, (g, gain))| *s = g * gain);
            let mean = total(&scaled, |h| h) / d as f32;
            let along = dot(&scaled, token, *at) / d as f32;
            for (s, (h, x)) in sum.iter_mut().zip(scaled.iter().zip(token)) {
                *s += (h - mean - (x - at.mean) * at.scale * along) * at.scale;
            }
        }
    }
}

impl Standing {
    fn of(token: &[f32]) -> Self {
        let d = token.len() as f32;
        let mean = total(token, |x| x) / d;
        let variance = total(token, |x| (x - mean) * (x - mean)) / d;
        Self { mean, scale: (variance + LAYER_NORM_EPS as f32).sqrt().recip() }
    }
}

/// Sum of a function of each number, in [`LANES`] partial sums.
fn total(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|&v| of(v)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(s, &v)| *s += of(v));
    }
    sums.iter().sum::<f32>() + rest
}

/// `sum h x'`, `x'` the normalised token.
fn dot(h: &[f32], token: &[f32], at: Standing) -> f32 {
    let mut sums = [0.0; LANES];
    let term = |h: f32, x: f32| h * (x - at.mean) * at.scale;
    let hs = h.chunks_exact(LANES);
    let xs = token.chunks_exact(LANES);
    let rest = hs.remainder().iter().zip(xs.remainder());
    let rest: f32 = rest.map(|(&h, &x)| term(h, x)).sum();
    for (h, x) in hs.zip(xs) {
        sums.iter_mut().zip(h.iter().zip(x)).for_each(|(s, (&h, &x))| *s += term(h, x));
    }
    sums.iter().sum::<f32>() + rest
}

/// Computes `gelu(u) = u P(u)` in place, with `P` the distribution function of the normal, and its
/// slope `P(u) + u p(u)`.
pub(super) fn gelu_with_slope(values: &mut [f32], slope: &mut Vec<f32>) {
    /// Numbers at a time: three arrays of this length fit in the innermost cache.
    const CHUNK: usize = 512;
    let mut below = [0.0f32; CHUNK];
    let mut density = [0.0f32; CHUNK];
    slope.resize(values.len(), 0.0);
    for (values, slope) in values.chunks_mut(CHUNK).zip(slope.chunks_mut(CHUNK)) {
        let below = &mut below[..values.len()];
        let density = &mut density[..values.len()];
        let starts = values.iter().zip(below.iter_mut().zip(density.iter_mut()));
        starts.for_each(|(&u, (e, p))| {
            *e = u * std::f32::consts::FRAC_1_SQRT_2;
            *p = -0.5 * u * u;
        });
        Erf {}.map_mut(below);
        Exp {}.map_mut(density);
        let normal = 1.0 / (2.0 * std::f32::consts::PI).sqrt();
        let ends = values.iter_mut().zip(slope).zip(below.iter().zip(density.iter()));
        ends.for_each(|((u, slope), (&e, &p))| {
            let below = 0.5 + 0.5 * e;
            *slope = below + *u * p * normal;
            *u *= below;
        });
    }
}
