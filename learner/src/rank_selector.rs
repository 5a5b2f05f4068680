//! DRS, dynamic rank selection: the number of directions of the shared bases that a task may use.
//!
//! Paper: the effective rank `r_t <= r` of a task comes from a complexity measure `H(T_t)` through
//! a Gumbel-Softmax over candidate ranks. Ours: the measure ([`Complexity`]), the candidates with 0
//! among them, the logits, and the growth of the claimed rank with the number of shots.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand_distr::{Distribution, Gumbel};

use crate::Complexity;

/// Candidate ranks with the initial logit of each.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSelector {
    candidates: Vec<usize>,
    logits: Vec<f64>,
}

/// Temperature of the Gumbel-Softmax at the start and at the end of its part of the training.
const TEMPERATURES: (f64, f64) = (1.0, 0.1);

/// Share of the training in which the rank is still chosen. After it the mask is hard, so that the
/// trained network is the stored one.
pub(crate) const SOFT_SHARE: f64 = 2.0 / 3.0;

/// Width `s` of the logits' peak around the rank that the complexity claims, in octaves of
/// `1 + rank`.
const OCTAVES: f64 = 0.7;

impl RankSelector {
    /// Creates a selector with candidates 0, 2, 4, 8 .. `max_rank`. The logits peak at the rank
    /// that the complexity claims: `-((log2(1 + rank) - log2(1 + max_rank) c) / s)^2`, with `c` the
    /// [claim](Complexity::claim).
    pub fn new(max_rank: usize, complexity: &Complexity) -> Self {
        let mut candidates = vec![0];
        candidates.extend((1..).map(|i| 1usize << i).take_while(|&rank| rank < max_rank));
        if max_rank > 0 {
            candidates.push(max_rank);
        }
        let octaves = |rank: usize| (1.0 + rank as f64).log2();
        let wanted = octaves(max_rank) * complexity.claim();
        let logit = |&rank: &usize| -((octaves(rank) - wanted) / OCTAVES).powi(2);
        let logits = candidates.iter().map(logit).collect();
        Self { candidates, logits }
    }

    /// Creates a selector with a single candidate `rank`: the ablation without DRS.
    pub fn fixed(rank: usize) -> Self {
        Self { candidates: vec![rank], logits: vec![0.0] }
    }

    /// Candidate ranks, ascending.
    pub fn candidates(&self) -> &[usize] {
        &self.candidates
    }

    /// Returns the rank with the highest logit before any training. 0 means that no rank is worth
    /// its cost.
    pub fn prior_rank(&self) -> usize {
        self.rank_of(&self.logits)
    }

    pub(crate) fn logits(&self) -> &[f64] {
        &self.logits
    }

    /// Returns the candidate with the highest logit, the lowest rank of equals.
    pub(crate) fn rank_of(&self, logits: &[f64]) -> usize {
        let mut best = 0;
        for (k, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = k;
            }
        }
        self.candidates.get(best).copied().unwrap_or(0)
    }

    /// Draws relaxed weights of the candidates, `[1, candidates]`, by Gumbel-Softmax
    /// (arXiv:1611.01144).
    pub(crate) fn draw(&self, logits: Tensor<2>, progress: f64, rng: &mut StdRng) -> Tensor<2> {
        let (start, end) = TEMPERATURES;
        let along = (progress / SOFT_SHARE).min(1.0);
        let temperature = end + (start - end) * 0.5 * (1.0 + (std::f64::consts::PI * along).cos());
        let gumbel = Gumbel::new(0.0f32, 1.0).expect("the scale is positive");
        let noise: Vec<f32> = self.candidates.iter().map(|_| gumbel.sample(rng)).collect();
        let noise = Tensor::<2>::from_data(
            TensorData::new(noise, [1, self.candidates.len()]),
            &logits.device(),
        );
        softmax((logits + noise).div_scalar(temperature), 1)
    }

    /// Returns the nested masks of the candidates, ones first: `[candidates, max_rank]`.
    pub(crate) fn masks(&self, max_rank: usize, device: &Device) -> Tensor<2> {
        let ones = |&rank: &usize| (0..max_rank).map(move |j| f32::from(u8::from(j < rank)));
        let values: Vec<f32> = self.candidates.iter().flat_map(ones).collect();
        Tensor::from_data(TensorData::new(values, [self.candidates.len(), max_rank]), device)
    }

    /// Returns each candidate's share of the largest rank: `[candidates, 1]`.
    pub(crate) fn costs(&self, max_rank: usize, device: &Device) -> Tensor<2> {
        let cost = |&rank: &usize| rank as f32 / max_rank.max(1) as f32;
        let values: Vec<f32> = self.candidates.iter().map(cost).collect();
        Tensor::from_data(TensorData::new(values, [self.candidates.len(), 1]), device)
    }
}
