//! What commands print: text for people, JSON for scripts. The JSON keys are a contract.

use std::io::Write;

use fmlora_learner::{Estimate, Prediction};
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

/// Files that text output names one by one.
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
    pub(crate) accuracy: f64,
    pub(crate) per_class: std::collections::BTreeMap<String, Option<f64>>,
    pub(crate) confused: Vec<ConfusionDto>,
    pub(crate) enough: bool,
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

/// Accuracy from which on nothing more needs to be taught.
const ENOUGH: f64 = 0.9;

/// Shots below which an estimate is too rough to say that they are enough.
const FEWEST_SHOTS: u32 = 5;

/// Pairs of classes that are worth naming.
const CONFUSIONS: usize = 3;

impl EstimateDto {
    pub(crate) fn new(estimate: &Estimate) -> Self {
        let confused = estimate.confusions.iter().take(CONFUSIONS).map(|c| ConfusionDto {
            class: c.class.to_string(),
            taken_for: c.taken_for.to_string(),
            share: c.share,
        });
        let few = estimate.classes.iter().filter(|c| c.shots < FEWEST_SHOTS);
        let few: Vec<String> = few.map(|c| c.class.to_string()).collect();
        let enough = estimate.accuracy >= ENOUGH && few.is_empty();
        let advice = match (estimate.confusions.first(), few.is_empty()) {
            (_, false) => format!("show at least {FEWEST_SHOTS} pictures of {}", few.join(", ")),
            _ if enough => "enough: more shots would change little".to_owned(),
            (Some(worst), _) => {
                format!(
                    "show more of {} and {}, in other light and from other sides",
                    worst.class, worst.taken_for
                )
            }
            (None, _) => "show more of every class".to_owned(),
        };
        let per_class = estimate.classes.iter().map(|c| (c.class.to_string(), c.accuracy));
        Self {
            accuracy: estimate.accuracy,
            per_class: per_class.collect(),
            confused: confused.collect(),
            enough,
            advice,
        }
    }

    /// For people: one to three lines.
    pub(crate) fn text(&self) -> String {
        let classes = self.per_class.values().flatten().count();
        let percent = 100.0 * self.accuracy;
        let mut lines = vec![format!("expected accuracy: {percent:.0} % over {classes} classes")];
        for c in &self.confused {
            let share = 100.0 * c.share;
            let (class, other) = (&c.class, &c.taken_for);
            lines.push(format!("  {class} is taken for {other} in {share:.0} % of cases"));
        }
        lines.push(format!("enough? {}", self.advice));
        lines.join("\n")
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

/// All files that were left out: those that hold no picture, then those that could not be read.
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

/// Says on the error stream which files were left out.
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

/// Says on the error stream why a command failed, with all causes.
pub(crate) fn print_error(error: &EdgeError, as_json: bool) {
    let text = with_causes(error);
    if as_json {
        eprintln!("{}", serde_json::json!({ "error": text }));
    } else {
        eprintln!("error: {text}");
    }
}

/// What an error says, and what its causes say beyond that.
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
