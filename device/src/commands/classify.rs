//! `classify`: what pictures show.

use serde::Serialize;

use crate::cli::{ClassifyArgs, Global};
use crate::pictures::{Keep, intake};
use crate::report::{self, PredictionDto};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

/// A picture that could not be read, in the place of its prediction.
#[derive(Debug, Serialize)]
struct Unreadable {
    path: String,
    error: String,
}

pub(super) fn run(global: &Global, args: &ClassifyArgs) -> Result<(), EdgeError> {
    let paths = folders::expand(&args.images)?;
    let mut session = Session::open(global, Access::Read)?;
    let taken = intake(&mut session, &paths, Keep::Features)?;
    let mut skipped = taken.skipped.iter();
    let mut features = taken.features.iter().peekable();
    let predictor = session.predictor()?;
    for (place, path) in paths.iter().enumerate() {
        if let Some((_, feature)) = features.next_if(|(p, _)| *p == place) {
            let prediction = predictor.predict(feature, args.top.max(1));
            let prediction = PredictionDto::new(Some(path), &prediction);
            if global.json {
                report::json(&prediction)?;
            } else {
                report::line(text(&prediction))?;
            }
        } else if let Some(item) = skipped.next() {
            let (path, error) = (item.path.display().to_string(), item.error.to_string());
            if global.json {
                report::json(&Unreadable { path, error })?;
            } else {
                eprintln!("skipped {path}: {error}");
            }
        }
    }
    match taken.skipped.first() {
        Some(first) if taken.features.is_empty() => Err(EdgeError::NoPictures {
            what: "classify".to_owned(),
            count: paths.len(),
            first: format!("{}: {}", first.path.display(), first.error),
        }),
        _ => Ok(()),
    }
}

fn text(prediction: &PredictionDto) -> String {
    let guesses: Vec<String> = prediction
        .top
        .iter()
        .map(|g| format!("{} {:.0} %", g.class, 100.0 * g.confidence))
        .collect();
    let guesses = guesses.join(", ");
    let path = prediction.path.as_deref().unwrap_or_default();
    match (prediction.unknown, prediction.top.is_empty()) {
        (_, true) => format!("{path}: nothing was taught yet"),
        (true, _) => format!("{path}: unknown (nearest: {guesses})"),
        (false, _) => format!("{path}: {guesses}"),
    }
}
