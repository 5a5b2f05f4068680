//! Rows of numbers quantised to eight bits, for the parts of an adapter that need little precision.

use serde::{Deserialize, Serialize};

/// Rows of `n_columns` numbers, each row with its own step: a 127th of its largest number.
///
/// Takes half the space of f16. The error of a number is at most half a step, which is under a
/// hundredth of the mean size of a row's numbers.
///
/// # Shapes
///
/// - `[n_rows, n_columns]`, `n_rows` being the number of steps
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ByteRows {
    n_columns: u32,
    steps: Vec<f32>,
    numbers: Vec<i8>,
}

/// Largest number of a row, in steps of the row.
const LARGEST: f64 = 127.0;

impl ByteRows {
    /// Quantises rows, all of `n_columns` numbers.
    pub fn new<'a>(n_columns: usize, rows: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let mut rounded =
            Self { n_columns: n_columns as u32, steps: Vec::new(), numbers: Vec::new() };
        for row in rows {
            let largest = row.iter().fold(0.0f64, |most, v| most.max(v.abs()));
            let step = (largest / LARGEST) as f32;
            let by = if step > 0.0 { f64::from(step).recip() } else { 0.0 };
            let number = |v: &f64| (v * by).round().clamp(-LARGEST, LARGEST) as i8;
            rounded.numbers.extend(row.iter().map(number));
            rounded.steps.push(step);
        }
        rounded
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Numbers of a row.
    pub fn n_columns(&self) -> usize {
        self.n_columns as usize
    }

    /// Approximate size in a file, in bytes: the lengths are not counted.
    pub fn n_bytes(&self) -> usize {
        4 * self.steps.len() + self.numbers.len()
    }

    /// Returns one row.
    pub fn row(&self, row: usize) -> Vec<f64> {
        let step = f64::from(self.steps[row]);
        let d = self.n_columns();
        self.numbers[row * d..][..d].iter().map(|&n| f64::from(n) * step).collect()
    }

    /// Returns the product of one row with a vector of the same length.
    pub(crate) fn dot(&self, row: usize, vector: &[f32]) -> f32 {
        let d = self.n_columns();
        let products = self.numbers[row * d..][..d].iter().zip(vector);
        self.steps[row] * products.map(|(&n, v)| f32::from(n) * v).sum::<f32>()
    }

    /// Iterates over all rows.
    pub fn rows(&self) -> impl Iterator<Item = Vec<f64>> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// Returns true for `n_rows` rows (any number if `None`) of `n_columns` finite numbers.
    pub(crate) fn fits(&self, n_rows: Option<usize>, n_columns: usize) -> bool {
        let finite = self.steps.iter().all(|step| step.is_finite() && *step >= 0.0);
        let filled = self.len().checked_mul(self.n_columns()) == Some(self.numbers.len());
        finite && filled && self.n_columns() == n_columns && n_rows.is_none_or(|n| n == self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_within_half_a_step() {
        let rows = [vec![0.5, -1.0, 0.003], vec![0.0; 3], vec![1e-7, 2e-7, -3e-7]];
        let bytes = ByteRows::new(3, rows.iter().map(Vec::as_slice));
        assert!(bytes.fits(Some(3), 3) && !bytes.fits(Some(2), 3) && !bytes.fits(None, 4));
        for (row, kept) in rows.iter().zip(bytes.rows()) {
            let largest = row.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (a, b) in row.iter().zip(kept) {
                // Half a step, plus the rounding of the step to f32.
                assert!((a - b).abs() <= largest / 127.0 * 0.500_001, "{a} {b}");
            }
        }
    }
}
