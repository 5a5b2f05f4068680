//! `classify`: predicts the classes of pictures.

use std::path::Path;

use fmlora_models::PictureFolder;
use serde::Serialize;

use crate::cli::{ClassifyArgs, Global};
use crate::pictures::{Keep, intake};
use crate::report::{self, GuessDto, PredictionDto};
use crate::store::Access;
use crate::{EdgeError, Session, folders};

/// Output for a file that is not a picture or cannot be read, in place of its prediction.
#[derive(Debug, Serialize)]
struct Unreadable {
    path: String,
    error: String,
}

impl Unreadable {
    fn new(path: &Path, error: &impl ToString) -> Self {
        Self { path: path.display().to_string(), error: error.to_string() }
    }
}

pub(super) fn run(global: &Global, args: &ClassifyArgs) -> Result<(), EdgeError> {
    let PictureFolder { pictures: paths, left_out } = folders::expand(&args.images)?;
    let mut session = Session::open(global, Access::Read)?;
    let taken = intake(&mut session, &paths, Keep::Features, |_| 0)?;
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
        } else if let Some(item) = skipped.next()
            && global.json
        {
            report::json(&Unreadable::new(&item.path, &item.error))?;
        }
    }
    if global.json {
        left_out.iter().try_for_each(|f| report::json(&Unreadable::new(&f.path, &f.reason)))?;
    } else {
        report::warn_left_out(&report::left_out(&left_out, &taken.skipped));
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

/// Formats the line of a picture. An unknown picture likely shows none of the classes, so
/// confidences among them say nothing and are left out.
fn text(prediction: &PredictionDto) -> String {
    let path = prediction.path.as_deref().unwrap_or_default();
    let guess = |g: &GuessDto| {
        if prediction.unknown {
            g.class.clone()
        } else {
            format!("{} {:.0} %", g.class, 100.0 * g.confidence)
        }
    };
    let guesses: Vec<String> = prediction.top.iter().map(guess).collect();
    let guesses = guesses.join(", ");
    match (prediction.unknown, prediction.top.is_empty()) {
        (_, true) => format!("{path}: nothing was taught yet"),
        (true, _) => format!("{path}: unknown (nearest: {guesses})"),
        (false, _) => format!("{path}: {guesses}"),
    }
}
