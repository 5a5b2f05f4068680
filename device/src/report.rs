//! Output of commands: text for people, JSON for scripts. The JSON keys are a contract.

use std::collections::BTreeMap;
use std::io::Write;

use fmlora_learner::{ClassEstimate, Estimate, Prediction};
use fmlora_models::LeftOut;
use serde::Serialize;
use utoipa::ToSchema;

use crate::EdgeError;
use crate::pictures::Skipped;

/// A picture that could not be read.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SkippedDto {
    pub(crate) path: String,
    pub(crate) error: String,
}

/// A file that was left out: a picture that could not be read, or no picture at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LeftOutDto {
    /// The file; in a form, the name that its part gives.
    pub(crate) path: String,
    /// Why it was left out.
    pub(crate) reason: String,
}

/// Limit of left-out files that text output names.
const NAMED: usize = 20;

/// A pair of classes that is mixed up.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ConfusionDto {
    pub(crate) class: String,
    pub(crate) taken_for: String,
    pub(crate) share: f64,
}

/// The accuracy to expect.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct EstimateDto {
    /// Share told right of pictures like those shown.
    pub(crate) accuracy: f64,
    /// Share told right on another day: in another light, in another place, or of another thing of its kind.
    pub(crate) another_day: f64,
    /// `accuracy` of each class; null with a single shot.
    pub(crate) per_class: BTreeMap<String, Option<f64>>,
    /// `another_day` of each class; null with a single shot.
    pub(crate) per_class_another_day: BTreeMap<String, Option<f64>>,
    /// Classes that were shown on one occasion only, or on several that hardly differ.
    pub(crate) one_occasion: Vec<String>,
    /// Classes whose pictures are all alike.
    pub(crate) alike: Vec<String>,
    /// Pairs that are mixed up on another day, the worst first.
    pub(crate) confused: Vec<ConfusionDto>,
    /// Whether `another_day` is high and more pictures would change little; never after one occasion.
    pub(crate) enough: bool,
    /// The next thing to do.
    pub(crate) advice: String,
}

/// One class among the likeliest.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct GuessDto {
    pub(crate) class: String,
    pub(crate) confidence: f32,
}

/// What shots of a class brought.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TeachReport {
    pub(crate) class: String,
    /// Shots added now.
    pub(crate) added: usize,
    /// Shots in all.
    pub(crate) shots: u32,
    pub(crate) estimate: Option<EstimateDto>,
}

/// A classified picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PredictionDto {
    /// Its file, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    pub(crate) class: Option<String>,
    pub(crate) confidence: f32,
    pub(crate) unknown: bool,
    pub(crate) top: Vec<GuessDto>,
}

/// Smallest accuracy on another day for the advice "enough".
const ENOUGH: f64 = 0.9;

/// Accuracy counts as levelled off if one more occasion of every class gains less than this.
const LEVEL: f64 = 0.02;

/// Effective number of occasions from which on a class counts as shown on several.
const SEVERAL_OCCASIONS: f64 = 1.5;

/// Fewest shots of a class for the advice "enough": with fewer, an estimate is too rough.
const FEWEST_SHOTS: u32 = 5;

/// Limit of confused pairs in an estimate.
const CONFUSIONS: usize = 3;

/// Limit of class names in an advice.
const ADVISED: usize = 5;

impl EstimateDto {
    pub(crate) fn new(estimate: &Estimate) -> Self {
        let confused = estimate.confusions.iter().take(CONFUSIONS).map(|c| ConfusionDto {
            class: c.class.to_string(),
            taken_for: c.taken_for.to_string(),
            share: c.share,
        });
        let names = |wanted: fn(&ClassEstimate) -> bool| -> Vec<String> {
            let classes = estimate.classes.iter().filter(|class| wanted(class));
            classes.map(|class| class.class.to_string()).collect()
        };
        let few = names(|class| class.shots < FEWEST_SHOTS);
        let one_occasion = names(|class| class.occasions < SEVERAL_OCCASIONS);
        let alike = names(|class| class.alike);
        let levelled_off = estimate.after_one_more - estimate.another_day < LEVEL;
        let enough = few.is_empty()
            && alike.is_empty()
            && one_occasion.is_empty()
            && estimate.another_day >= ENOUGH
            && levelled_off;
        let of_classes = |number: fn(&ClassEstimate) -> Option<f64>| {
            let classes = estimate.classes.iter();
            classes.map(|class| (class.class.to_string(), number(class))).collect()
        };
        Self {
            accuracy: estimate.accuracy,
            another_day: estimate.another_day,
            per_class: of_classes(|class| class.accuracy),
            per_class_another_day: of_classes(|class| class.another_day),
            advice: advice(estimate, enough, &few, &alike, &one_occasion),
            one_occasion,
            alike,
            confused: confused.collect(),
            enough,
        }
    }

    /// Returns the estimate as text of two to six lines.
    pub(crate) fn text(&self) -> String {
        let classes = self.per_class.values().flatten().count();
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let mut lines = vec![
            format!(
                "expected accuracy on pictures like these: {} over {classes} classes",
                percent(self.accuracy)
            ),
            format!("expected accuracy on another day: about {}", percent(self.another_day)),
        ];
        for c in &self.confused {
            let share = percent(c.share);
            lines.push(format!("  {} is taken for {} in {share} of cases", c.class, c.taken_for));
        }
        lines.push(format!("enough? {}", self.advice));
        lines.join("\n")
    }
}

/// Returns the advice: the next thing to do.
fn advice(
    estimate: &Estimate,
    enough: bool,
    few: &[String],
    alike: &[String],
    one_occasion: &[String],
) -> String {
    const OTHERWISE: &str = "in another light, in another place, or another one of its kind";
    if enough {
        return "enough: more pictures would change little".to_owned();
    }
    if !few.is_empty() {
        return format!("show at least {FEWEST_SHOTS} pictures of {}", listed(few));
    }
    if !alike.is_empty() {
        let names = listed(alike);
        return format!("the pictures of {names} are all alike: show more of it {OTHERWISE}");
    }
    if !one_occasion.is_empty() {
        return format!("show {} once more {OTHERWISE}", listed(one_occasion));
    }
    match estimate.confusions.first() {
        Some(worst) => {
            format!("show more of {} and {} {OTHERWISE}", worst.class, worst.taken_for)
        }
        None => format!("show more of every class {OTHERWISE}"),
    }
}

/// Lists names: the first few, and the number of the others.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(ADVISED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(ADVISED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl PredictionDto {
    pub(crate) fn new(path: Option<&std::path::Path>, prediction: &Prediction) -> Self {
        let guesses = prediction.top.iter();
        let top: Vec<GuessDto> = guesses
            .map(|g| GuessDto { class: g.class.to_string(), confidence: g.confidence })
            .collect();
        Self {
            path: path.map(|path| path.display().to_string()),
            class: top.first().map(|g| g.class.clone()),
            confidence: top.first().map_or(0.0, |g| g.confidence),
            unknown: prediction.unknown,
            top,
        }
    }
}

pub(crate) fn skipped(items: &[Skipped]) -> Vec<SkippedDto> {
    let dto =
        |s: &Skipped| SkippedDto { path: s.path.display().to_string(), error: s.error.to_string() };
    items.iter().map(dto).collect()
}

/// Returns all files that were left out: first the files without a picture, then the unreadable
/// ones.
pub(crate) fn left_out(no_pictures: &[LeftOut], skipped: &[Skipped]) -> Vec<LeftOutDto> {
    let path = |path: &std::path::Path| path.display().to_string();
    let first = no_pictures
        .iter()
        .map(|file| LeftOutDto { path: path(&file.path), reason: file.reason.clone() });
    let then = skipped
        .iter()
        .map(|file| LeftOutDto { path: path(&file.path), reason: file.error.to_string() });
    first.chain(then).collect()
}

/// Prints the files that were left out to standard error.
pub(crate) fn warn_left_out(files: &[LeftOutDto]) {
    for file in files.iter().take(NAMED) {
        eprintln!("left out {}: {}", file.path, file.reason);
    }
    if files.len() > NAMED {
        eprintln!("left out {} more files; --json names them all", files.len() - NAMED);
    }
}

/// Prints one line of text.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), EdgeError> {
    writeln!(std::io::stdout(), "{text}").map_err(EdgeError::Output)
}

/// Prints one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), EdgeError> {
    let text = serde_json::to_string(value).map_err(|e| EdgeError::Output(e.into()))?;
    line(text)
}

/// Prints the error of a command to standard error, with all causes.
pub(crate) fn print_error(error: &EdgeError, as_json: bool) {
    let text = with_causes(error);
    if as_json {
        eprintln!("{}", serde_json::json!({ "error": text }));
    } else {
        eprintln!("error: {text}");
    }
}

/// Returns the message of an error, followed by those of its causes that it does not contain.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use fmlora_learner::{ClassEstimate, ClassName, Confusion};

    use super::*;

    fn name(text: &str) -> ClassName {
        ClassName::new(text).expect("a name")
    }

    /// Returns an estimate of two classes with the given accuracies on another day and after one
    /// more occasion.
    fn estimate(occasions: [f64; 2], another_day: f64, after_one_more: f64) -> Estimate {
        let class = |(text, occasions): (&str, f64)| ClassEstimate {
            class: name(text),
            shots: 10,
            occasions,
            alike: false,
            accuracy: Some(0.99),
            another_day: Some(another_day),
        };
        let confusion = Confusion { class: name("cup"), taken_for: name("mug"), share: 0.1 };
        Estimate {
            accuracy: 0.99,
            another_day,
            after_one_more,
            classes: ["cup", "mug"].into_iter().zip(occasions).map(class).collect(),
            confusions: vec![confusion],
        }
    }

    #[test]
    fn enough_is_never_said_after_one_occasion() {
        let told = EstimateDto::new(&estimate([1.0, 1.0], 0.99, 0.99));
        assert!(!told.enough);
        assert_eq!(told.one_occasion, ["cup", "mug"]);
        assert!(told.advice.contains("cup, mug") && told.advice.contains("another light"));
        let told = EstimateDto::new(&estimate([3.0, 1.2], 0.99, 0.99));
        assert!(!told.enough && told.advice.contains("mug") && !told.advice.contains("cup"));
        assert!(EstimateDto::new(&estimate([3.0, 2.0], 0.95, 0.96)).enough);
    }

    #[test]
    fn enough_is_said_when_another_day_is_good_and_levelled_off() {
        for (another_day, after_one_more) in [(0.8, 0.8), (0.92, 0.97)] {
            let told = EstimateDto::new(&estimate([2.0, 2.0], another_day, after_one_more));
            assert!(!told.enough, "{another_day} {after_one_more}");
            assert!(told.advice.starts_with("show more of cup and mug"), "{}", told.advice);
        }
    }

    #[test]
    fn shots_that_are_alike_are_told_to_be_so() {
        let mut estimate = estimate([2.0, 2.0], 0.99, 0.99);
        estimate.classes[1].alike = true;
        let told = EstimateDto::new(&estimate);
        assert_eq!(told.alike, ["mug"]);
        assert!(told.advice.starts_with("the pictures of mug are all alike"), "{}", told.advice);
    }

    #[test]
    fn both_numbers_are_told() {
        let text = EstimateDto::new(&estimate([1.0, 1.0], 0.62, 0.7)).text();
        assert!(text.contains("on pictures like these: 99 %"), "{text}");
        assert!(text.contains("on another day: about 62 %"), "{text}");
    }
}
