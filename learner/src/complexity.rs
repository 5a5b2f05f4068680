//! Complexity `H(T_t)` of a task: its difficulty and its novelty.

use faer::Mat;
use serde::{Deserialize, Serialize};

/// Measures of a task, the input of the rank selector. All numbers are in [0, 1].
///
/// Paper: the measure covers difficulty and similarity to the known tasks. Ours: the choice of the
/// measures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Complexity {
    /// `1 -` accuracy of the nearest mean on the task's own shots, each left out.
    pub difficulty: f64,
    /// Share of the task's class means, about the centre of the known classes, that is outside the
    /// span of the known means. 1 if there are fewer than two known classes.
    pub novelty: f64,
    /// Weight of the evidence, `n / (n + 60)` for `n` shots a class: with few shots the head alone
    /// is best, whatever the task.
    pub evidence: f64,
}

/// Shots a class at which evidence is one half. With 20, tasks of 5 and 20 shots were trained, and
/// none of 38 of these trainings on CIFAR-100 was worth keeping (docs/benchmark.md).
const HALF_EVIDENCE: f64 = 60.0;

/// Shots of one class and their mean.
struct Group<'a> {
    shots: &'a [Vec<f32>],
    mean: Vec<f64>,
}

impl Complexity {
    /// Measures a task from the shots of each of its classes and the means of the classes known
    /// before.
    ///
    /// Classes without a shot do not count.
    ///
    /// # Shapes
    ///
    /// - every shot and every mean: `d_feature` numbers
    pub fn of(task: &[&[Vec<f32>]], known_means: &[Vec<f32>]) -> Self {
        let shot_classes = task.iter().copied().filter(|shots| !shots.is_empty());
        let groups: Vec<Group<'_>> = shot_classes.map(Group::new).collect();
        let n_shots: usize = groups.iter().map(|g| g.shots.len()).sum();
        let mean_shots = n_shots as f64 / groups.len().max(1) as f64;
        Self {
            difficulty: difficulty(&groups),
            novelty: novelty(&groups, known_means),
            evidence: mean_shots / (mean_shots + HALF_EVIDENCE),
        }
    }

    /// `H`: the mean of difficulty and novelty.
    pub fn h(&self) -> f64 {
        f64::midpoint(self.difficulty, self.novelty)
    }

    /// Claim of the task on the rank of the bases: `H` times the evidence.
    pub fn claim(&self) -> f64 {
        self.h() * self.evidence
    }
}

impl<'a> Group<'a> {
    fn new(shots: &'a [Vec<f32>]) -> Self {
        let mut mean = vec![0.0; shots.first().map_or(0, Vec::len)];
        for shot in shots {
            let share = 1.0 / shots.len() as f64;
            mean.iter_mut().zip(shot).for_each(|(m, &v)| *m += f64::from(v) * share);
        }
        Self { shots, mean }
    }

    fn squared_distance(&self, shot: &[f32]) -> f64 {
        shot.iter().zip(&self.mean).map(|(&v, m)| (f64::from(v) - m).powi(2)).sum()
    }
}

/// Share of the shots that the nearest mean classifies wrongly, with the shot itself left out. With
/// one class, or classes of a single shot each, there is no evidence: one half.
fn difficulty(groups: &[Group<'_>]) -> f64 {
    let mut judged = 0usize;
    let mut wrong = 0usize;
    for (own, group) in groups.iter().enumerate() {
        let n = group.shots.len() as f64;
        if groups.len() < 2 || n < 2.0 {
            continue;
        }
        for shot in group.shots {
            // Without the shot, the mean moves away from it by a factor n / (n - 1).
            let left_out = (n / (n - 1.0)).powi(2) * group.squared_distance(shot);
            let others = groups.iter().enumerate().filter(|(other, _)| *other != own);
            judged += 1;
            wrong +=
                usize::from(others.map(|(_, o)| o.squared_distance(shot)).any(|d| d < left_out));
        }
    }
    if judged == 0 { 0.5 } else { wrong as f64 / judged as f64 }
}

/// `1 - ||U^T C||^2 / ||C||^2`: `C` the task's class means and `U` a basis of the known means, both
/// about the centre of the known classes, which all classes have in common.
fn novelty(groups: &[Group<'_>], known: &[Vec<f32>]) -> f64 {
    if known.len() < 2 || groups.is_empty() {
        return 1.0;
    }
    let d = known[0].len();
    let mut centre = vec![0.0; d];
    for mean in known {
        let share = 1.0 / known.len() as f64;
        centre.iter_mut().zip(mean).for_each(|(c, &m)| *c += f64::from(m) * share);
    }
    let old = Mat::from_fn(d, known.len(), |i, j| f64::from(known[j][i]) - centre[i]);
    let new = Mat::from_fn(d, groups.len(), |i, j| groups[j].mean[i] - centre[i]);
    let total = new.squared_norm_l2();
    // Pivoting sorts the directions: those of rounding noise come last and can be cut off.
    let qr = old.col_piv_qr();
    let r = qr.thin_R();
    let depth = r.nrows().min(r.ncols());
    let rank = (0..depth).take_while(|&k| r[(k, k)].abs() > 1e-6 * r[(0, 0)].abs()).count();
    let basis = qr.compute_thin_Q();
    let inside = (basis.subcols(0, rank).transpose() * new).squared_norm_l2();
    if total > 0.0 { (1.0 - inside / total).clamp(0.0, 1.0) } else { 0.0 }
}
