//! Properties of class statistics.

use super::*;

/// Returns shots about a mean, the same for the same seed.
fn shots(n: usize, d: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..d).map(|j| next() * 4.0 + j as f32 * 0.1).collect()).collect()
}

/// Returns `V^T V`.
fn scatter_matrix(statistics: &ClassStatistics) -> Vec<f64> {
    let d = statistics.d_feature();
    let rows = statistics.scatter().rows();
    let mut matrix = vec![0.0; d * d];
    for row in rows.chunks_exact(d) {
        for i in 0..d {
            for j in 0..d {
                matrix[i * d + j] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    matrix
}

fn difference(a: &[f64], b: &[f64]) -> f64 {
    let largest = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / largest
}

/// A few roundings to f16 (11 significant bits).
const HALF_ROUNDING: f64 = 4e-3;

#[test]
fn scatter_and_mean_are_those_of_the_shots() {
    let n = 9;
    let d = 12;
    let shots = shots(n, d, 3);
    let statistics = ClassStatistics::from_shots(&shots).expect("sound shots");
    let mean: Vec<f64> =
        (0..d).map(|j| shots.iter().map(|s| f64::from(s[j])).sum::<f64>() / n as f64).collect();
    let mut expected = vec![0.0; d * d];
    for shot in &shots {
        for i in 0..d {
            for j in 0..d {
                expected[i * d + j] +=
                    (f64::from(shot[i]) - mean[i]) * (f64::from(shot[j]) - mean[j]);
            }
        }
    }
    assert!(difference(&expected, &scatter_matrix(&statistics)) < HALF_ROUNDING);
    let found: Vec<f64> = statistics.mean().iter().map(|&v| f64::from(v)).collect();
    assert!(difference(&mean, &found) < HALF_ROUNDING);
    assert_eq!(statistics.scatter().rank(), n - 1, "n shots scatter in n - 1 directions");
}

#[test]
fn order_and_grouping_of_shots_do_not_matter() {
    let shots = shots(14, 10, 5);
    let at_once = ClassStatistics::from_shots(&shots).expect("sound shots");
    let mut one_by_one = ClassStatistics::from_shots(&shots[13..]).expect("sound shots");
    for shot in shots[..13].iter().rev() {
        one_by_one = one_by_one.with_shots(std::slice::from_ref(shot)).expect("a sound shot");
    }
    assert_eq!(at_once.count(), one_by_one.count());
    let a = scatter_matrix(&at_once);
    let b = scatter_matrix(&one_by_one);
    assert!(difference(&a, &b) < HALF_ROUNDING, "{}", difference(&a, &b));
}

#[test]
fn rows_do_not_show_the_shots() {
    let shots = shots(6, 40, 9);
    let statistics = ClassStatistics::from_shots(&shots).expect("sound shots");
    let mean = statistics.mean();
    let d = statistics.d_feature();
    for row in statistics.scatter().rows().chunks_exact(d) {
        for shot in &shots {
            let centred: Vec<f32> = shot.iter().zip(&mean).map(|(s, m)| s - m).collect();
            let dot: f32 = row.iter().zip(&centred).map(|(a, b)| a * b).sum();
            let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
            let cosine = (dot / (norm(row) * norm(&centred))).abs();
            assert!(cosine < 0.95, "a row is a shot (cosine {cosine})");
        }
    }
}

#[test]
fn shots_that_do_not_fit_are_refused() {
    let statistics = ClassStatistics::from_shots(&shots(3, 4, 1)).expect("sound shots");
    assert!(matches!(statistics.with_shots(&[]), Err(StatisticsError::NoShots)));
    let short = statistics.with_shots(&[vec![0.0; 3]]);
    assert!(matches!(short, Err(StatisticsError::Length { found: 3, expected: 4 })));
    assert!(statistics.with_shots(&[vec![f32::NAN; 4]]).is_err());
    assert!(statistics.with_shots(&[vec![f32::INFINITY; 4]]).is_err());
}
