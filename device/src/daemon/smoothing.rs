//! Averages predictions over several frames: one frame may be blurred, turned or half out of sight.

use std::collections::VecDeque;

use fmlora_learner::{ClassName, Prediction};
use serde::Serialize;
use utoipa::ToSchema;

/// What the last frames show.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// The likeliest class; `None` if nothing was taught.
    pub(crate) class: Option<String>,
    /// Its mean probability over the frames, given that they show one of the classes.
    pub(crate) confidence: f32,
    /// Whether most frames likely show none of the classes.
    pub(crate) unknown: bool,
    /// Frames that the answer rests on.
    pub(crate) frames: usize,
}

/// Window of the last predictions.
#[derive(Debug)]
pub(crate) struct Smoothing {
    length: usize,
    window: VecDeque<Prediction>,
}

impl Smoothing {
    /// Averages over the last `length` predictions, at least one.
    pub(crate) fn new(length: usize) -> Self {
        Self { length: length.max(1), window: VecDeque::new() }
    }

    /// Changes the length of the window.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.length = length.max(1);
        let surplus = self.window.len().saturating_sub(self.length);
        self.window.drain(..surplus);
    }

    /// Clears the window after a change of the classes.
    pub(crate) fn forget(&mut self) {
        self.window.clear();
    }

    /// Adds a prediction of all classes and returns the average of the window.
    pub(crate) fn add(&mut self, prediction: Prediction) -> Answer {
        if self.window.len() == self.length {
            self.window.pop_front();
        }
        self.window.push_back(prediction);
        let frames = self.window.len();
        let mut sums: Vec<(&ClassName, f32)> = Vec::new();
        for guess in self.window.iter().flat_map(|prediction| &prediction.top) {
            match sums.iter_mut().find(|(class, _)| *class == &guess.class) {
                Some((_, sum)) => *sum += guess.confidence,
                None => sums.push((&guess.class, guess.confidence)),
            }
        }
        let best = sums.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let n_unknown = self.window.iter().filter(|prediction| prediction.unknown).count();
        Answer {
            class: best.map(|(class, _)| class.to_string()),
            confidence: best.map_or(0.0, |(_, sum)| sum / frames as f32),
            unknown: 2 * n_unknown > frames,
            frames,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fmlora_learner::Guess;

    fn prediction(cup: f32, unknown: bool) -> Prediction {
        let guess = |class: &str, confidence| Guess {
            class: ClassName::new(class).expect("a name"),
            confidence,
        };
        Prediction { top: vec![guess("cup", cup), guess("plant", 1.0 - cup)], unknown }
    }

    #[test]
    fn one_bad_frame_changes_nothing_and_several_do() {
        let mut smoothing = Smoothing::new(3);
        let answers: Vec<Answer> = [0.9, 0.9, 0.2, 0.1, 0.1]
            .into_iter()
            .map(|cup| smoothing.add(prediction(cup, cup < 0.5)))
            .collect();
        let classes: Vec<&str> = answers.iter().map(|a| a.class.as_deref().expect("one")).collect();
        assert_eq!(classes, ["cup", "cup", "cup", "plant", "plant"]);
        let unknown: Vec<bool> = answers.iter().map(|answer| answer.unknown).collect();
        assert_eq!(unknown, [false, false, false, true, true]);
        assert_eq!(answers[4].frames, 3);
        assert!((answers[2].confidence - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_taught_is_no_class() {
        let answer = Smoothing::new(2).add(Prediction { top: Vec::new(), unknown: true });
        assert_eq!((answer.class, answer.confidence), (None, 0.0));
    }
}
