//! Nearest class mean on frozen features, by cosine (SimpleCIL, arXiv:2303.07338).

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Learned, Method, World};
use crate::bench::stream::TaskRows;

/// Sum and number of the features of each class.
#[derive(Debug, Default)]
pub(super) struct NearestMean {
    sums: BTreeMap<usize, (Vec<f32>, usize)>,
}

impl Method for NearestMean {
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned> {
        let train = &world.arena.prepared.train;
        let before = self.n_bytes();
        for row in train.rows(&task.train, task.views) {
            let feature = &train.features[row];
            let empty = || (vec![0.0; feature.len()], 0);
            let (sum, n) = self.sums.entry(train.labels[row]).or_insert_with(empty);
            sum.iter_mut().zip(feature).for_each(|(s, v)| *s += v);
            *n += 1;
        }
        Ok(Learned { n_bytes: self.n_bytes() - before, ..Learned::default() })
    }

    fn labels(&self, _: &World<'_>) -> Result<Vec<usize>> {
        Ok(self.sums.keys().copied().collect())
    }

    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let means: Vec<Vec<f32>> = self.sums.values().map(|(sum, _)| unit(sum)).collect();
        let scores = |&row: &usize| {
            let feature = unit(&world.arena.prepared.test.features[row]);
            let cosine = |mean: &Vec<f32>| mean.iter().zip(&feature).map(|(m, v)| m * v).sum();
            means.iter().map(cosine).collect()
        };
        Ok(rows.iter().map(scores).collect())
    }

    fn n_bytes(&self) -> usize {
        self.sums.values().map(|(sum, _)| size_of_val(sum.as_slice())).sum()
    }
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|v| v / norm).collect()
}
