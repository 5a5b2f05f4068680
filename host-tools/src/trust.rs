//! Trust metrics of answers: calibration of confidence, and detection of strangers (pictures of
//! classes that were not taught).

use fmlora_learner::Predictor;
use serde::{Deserialize, Serialize};

/// One answer to a picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Label of the likeliest class.
    pub(crate) label: usize,
    /// Probability of this class, in [0, 1].
    pub(crate) confidence: f64,
    /// Evidence that the picture shows any taught class, in units of the method.
    pub(crate) evidence: f64,
    /// True if the picture is called unknown: it shows no taught class.
    pub(crate) unknown: bool,
}

/// Detection of strangers: some classes are taught, and pictures of all other classes are
/// strangers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Strangers {
    /// Number of taught classes.
    pub(crate) taught: usize,
    /// Share of pictures of taught classes called unknown.
    pub(crate) false_alarms: f64,
    /// Share of pictures of strangers called unknown.
    pub(crate) detected: f64,
    /// Share of pictures of strangers called unknown, at a threshold with exactly 5 % false alarms.
    pub(crate) detected_at_5_percent: f64,
    /// Area under the ROC curve: chance that a picture of a stranger has less evidence than one of
    /// a taught class.
    pub(crate) auroc: f64,
}

impl Answer {
    /// Returns the answer of a head. `labels` are in the order of the head's names.
    pub(crate) fn of(predictor: &Predictor, labels: &[usize], feature: &[f32]) -> Self {
        let prediction = predictor.predict(feature, 1);
        let best = prediction.top.first();
        let place = best.and_then(|best| predictor.names().iter().position(|n| *n == best.class));
        Self {
            label: place.map_or(usize::MAX, |place| labels[place]),
            confidence: best.map_or(0.0, |best| f64::from(best.confidence)),
            evidence: f64::from(predictor.evidence_of(feature)),
            unknown: prediction.unknown,
        }
    }
}

impl Strangers {
    /// Computes the metrics of a head with `taught` classes, from its answers to pictures of these
    /// classes (`own`) and of all other classes (`other`).
    pub(crate) fn new(taught: usize, own: &[Answer], other: &[Answer]) -> Self {
        let alarms = own.iter().filter(|answer| answer.unknown).count();
        let detected = other.iter().filter(|answer| answer.unknown).count();
        let own = sorted(own);
        let other = sorted(other);
        let below = |evidence: &f64| other.partition_point(|other| other < evidence);
        let not_above = |evidence: &f64| other.partition_point(|other| other <= evidence);
        // Equal evidence counts half.
        let wins = |evidence: &f64| (below(evidence) + not_above(evidence)) as f64 / 2.0;
        let pairs = (own.len() * other.len()).max(1) as f64;
        let threshold = own.get(own.len() / 20).copied().unwrap_or(f64::MIN);
        let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
        Self {
            taught,
            false_alarms: share(alarms, own.len()),
            detected: share(detected, other.len()),
            detected_at_5_percent: share(below(&threshold), other.len()),
            auroc: own.iter().map(wins).sum::<f64>() / pairs,
        }
    }
}

/// Returns the evidence of the answers, in ascending order.
fn sorted(answers: &[Answer]) -> Vec<f64> {
    let mut evidence: Vec<f64> = answers.iter().map(|answer| answer.evidence).collect();
    evidence.sort_by(f64::total_cmp);
    evidence
}

/// Returns the labels of the classes to teach: the first of a fixed order that is neither
/// alphabetic nor by label. All other classes are strangers.
pub(crate) fn taught_classes(n_classes: usize, taught: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_classes).collect();
    // Multiples of a prime, modulo another.
    order.sort_by_key(|&i| (i * 7919 + 13) % 10007);
    order.truncate(taught);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(evidence: &[f64]) -> Vec<Answer> {
        let answer = |&evidence: &f64| Answer {
            label: 0,
            confidence: 0.5,
            evidence,
            unknown: evidence < 2.0,
        };
        evidence.iter().map(answer).collect()
    }

    #[test]
    fn strangers_are_counted_by_evidence_and_threshold() {
        let own = answers(&[1.0, 3.0, 4.0, 5.0]);
        let other = answers(&[0.0, 1.0, 2.0, 4.5]);
        let strangers = Strangers::new(3, &own, &other);
        let expected = Strangers {
            taught: 3,
            false_alarms: 0.25,
            detected: 0.5,
            // The lowest evidence of a taught picture is 1.0, below which one stranger lies.
            detected_at_5_percent: 0.25,
            // Pairs won: 1.5 of 1.0, 3 of 3.0, 3 of 4.0, 4 of 5.0.
            auroc: 11.5 / 16.0,
        };
        assert_eq!(strangers, expected);
    }

    #[test]
    fn the_taught_classes_are_a_fixed_part_of_all() {
        let taught = taught_classes(61, 31);
        assert_eq!(taught.len(), 31);
        assert_eq!(taught, taught_classes(61, 31));
        assert_ne!(taught, (0..31).collect::<Vec<usize>>());
    }
}
