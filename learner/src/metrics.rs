//! Metrics of continual learning, from accuracies task by task.

use serde::{Deserialize, Serialize};

/// `a[t][j]`: accuracy on the test pictures of task `j` after task `t`, among all classes seen so
/// far and without knowledge of the task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccuracyMatrix {
    /// Row `t` has `t + 1` accuracies.
    rows: Vec<Vec<f64>>,
    /// Number of test pictures of each task.
    sizes: Vec<usize>,
}

impl AccuracyMatrix {
    /// Creates an empty matrix for tasks with these numbers of test pictures.
    pub fn new(sizes: Vec<usize>) -> Self {
        Self { rows: Vec::new(), sizes }
    }

    /// Adds the accuracies after the next task, one for each task so far.
    pub fn push(&mut self, accuracies: Vec<f64>) {
        self.rows.push(accuracies);
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// `A_t`: accuracy on the test pictures of tasks 1 to `t` together, after task `t`.
    pub fn trajectory(&self) -> Vec<f64> {
        let mean = |row: &Vec<f64>| {
            let total: usize = self.sizes.iter().take(row.len()).sum();
            let right: f64 = row.iter().zip(&self.sizes).map(|(a, &n)| a * n as f64).sum();
            right / total.max(1) as f64
        };
        self.rows.iter().map(mean).collect()
    }

    /// Accuracy after the last task.
    pub fn acc(&self) -> f64 {
        self.trajectory().last().copied().unwrap_or(0.0)
    }

    /// Averaged anytime accuracy: the mean of `A_t` over tasks (arXiv:2003.05856).
    pub fn aaa(&self) -> f64 {
        let trajectory = self.trajectory();
        trajectory.iter().sum::<f64>() / trajectory.len().max(1) as f64
    }

    /// Mean loss of accuracy since the best, over all tasks but the last (arXiv:1801.10112).
    pub fn forgetting(&self) -> f64 {
        self.over_old_tasks(|j, last| {
            let before = self.rows[j..self.rows.len() - 1].iter().map(|row| row[j]);
            before.fold(f64::NEG_INFINITY, f64::max) - last
        })
    }

    /// Backward transfer: mean change of accuracy since a task was learned, over all tasks but the
    /// last (arXiv:1706.08840).
    pub fn bwt(&self) -> f64 {
        self.over_old_tasks(|j, last| last - self.rows[j][j])
    }

    fn over_old_tasks(&self, change: impl Fn(usize, f64) -> f64) -> f64 {
        let Some((last, before)) = self.rows.split_last() else { return 0.0 };
        let changes: Vec<f64> = (0..before.len()).map(|j| change(j, last[j])).collect();
        changes.iter().sum::<f64>() / changes.len().max(1) as f64
    }
}

/// Calibration of confidence: the expected calibration error (Guo et al., arXiv:1706.04599) over 15
/// bins.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    /// Sums of confidence and of right answers in each bin.
    bins: [(f64, f64); BINS],
    n: usize,
}

/// Number of bins of confidence.
const BINS: usize = 15;

impl Calibration {
    /// Counts one answer.
    pub fn push(&mut self, confidence: f64, right: bool) {
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(right));
        self.n += 1;
    }

    /// Mean confidence; 0 without answers.
    pub fn confidence(&self) -> f64 {
        self.bins.iter().map(|bin| bin.0).sum::<f64>() / self.n.max(1) as f64
    }

    /// Expected calibration error: the mean over the answers of the difference between confidence
    /// and share of right answers in their bin. 0 without answers.
    pub fn error(&self) -> f64 {
        let apart = self.bins.iter().map(|(confidence, right)| (confidence - right).abs());
        apart.sum::<f64>() / self.n.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_a_small_example_are_those_worked_out_by_hand() {
        let mut matrix = AccuracyMatrix::new(vec![10, 30]);
        matrix.push(vec![0.9]);
        matrix.push(vec![0.6, 0.8]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(matrix.acc(), (0.6 * 10.0 + 0.8 * 30.0) / 40.0));
        assert!(close(matrix.aaa(), f64::midpoint(0.9, 0.75)));
        assert!(close(matrix.forgetting(), 0.3));
        assert!(close(matrix.bwt(), -0.3));
    }

    #[test]
    fn forgetting_counts_from_the_best_and_transfer_from_the_first() {
        let mut matrix = AccuracyMatrix::new(vec![1, 1, 1]);
        matrix.push(vec![0.5]);
        matrix.push(vec![0.7, 0.9]);
        matrix.push(vec![0.6, 0.9, 1.0]);
        assert!((matrix.forgetting() - 0.05).abs() < 1e-12);
        assert!((matrix.bwt() - 0.05).abs() < 1e-12);
    }
}
