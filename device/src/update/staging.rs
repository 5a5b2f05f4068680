//! Checks of an adapter before its use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use fmlora_learner::format::{AdapterFile, Applied, Ground, decode_adapter};
use fmlora_learner::{Class, Estimate, FittedHead, Learner, Predictor, test_pattern};

use super::difference::learner_of;
use super::layers::Layer;
use super::offer::Offered;
use crate::report::with_causes;
use crate::{EdgeError, Engine, Session};

/// Maximum distance from the known answer: f16 rounds by less than .001, products in f16 by some
/// more.
const FARTHEST: f32 = 0.02;

/// Maximum factor by which a picture may take longer.
const SLOWER: f64 = 2.0;

/// Tolerance for the time that a system may spend on something else at any moment.
const SPARE: Duration = Duration::from_millis(2);

/// Maximum number of pictures timed with each of the two networks. The fastest counts.
const TIMED: usize = 20;

/// Maximum decrease of the expected accuracy on classes known before.
const WORSE: f64 = 0.10;

/// Maximum decrease in standard errors: a harmless adapter is refused with a chance of one in
/// twenty.
const BEYOND_CHANCE: f64 = 1.64;

/// An adapter that passed the checks and may be applied.
pub(super) struct Staged {
    /// The learner with it, then with each of the adapters on top of it.
    pub(super) steps: Vec<Learner>,
    /// Classes that would be lost, for want of a drift map.
    pub(super) lost: Vec<String>,
}

/// Reason why an adapter is not applied.
pub(super) enum Refusal {
    /// It is not as it should be, and never will be.
    Bad(String),
    /// It did not pass, because of itself or of other work on the device.
    Perhaps(String),
    /// The program ended at each try. It is retried after a back-off.
    Crashes(String),
    /// Another error, which may be temporary.
    Failed(EdgeError),
}

impl From<EdgeError> for Refusal {
    fn from(error: EdgeError) -> Self {
        Self::Failed(error)
    }
}

/// Reads an adapter, applies it to `ground` and those of `above` on top of it, and checks the
/// resulting network and head. `ground` is the session's learner, or the one before an adapter that
/// this one replaces.
pub(super) fn stage(
    session: &mut Session,
    ground: &Learner,
    offered: &Offered,
    file: &[u8],
    above: &[&Layer],
) -> Result<Staged, Refusal> {
    let bad = |error: &dyn std::error::Error| Refusal::Bad(with_causes(error));
    let (adapter, sha256) = decode_adapter(file).map_err(|e| bad(&e))?;
    offered.offer.check(&adapter.facts).map_err(|e| bad(&e))?;
    let applied = applied(session, ground, &adapter).map_err(Refusal::Bad)?;
    let lost = match applied.known {
        Some(_) => Vec::new(),
        None => ground.classes().map(|class| class.name.to_string()).collect(),
    };
    let mut network = try_network(session, &adapter, &applied)?;
    let mut next = learner(ground, &applied, sha256).map_err(Refusal::Bad)?;
    let mut steps = vec![next.clone()];
    for layer in above {
        next = with_layer(session, &next, layer).map_err(Refusal::Bad)?;
        steps.push(next.clone());
    }
    let head = try_head(session, &next)?;
    match in_time(session, &mut network, &head)? {
        None => Ok(Staged { steps, lost }),
        Some(why) => Err(Refusal::Perhaps(why)),
    }
}

/// Applies an adapter that was in use before to another ground.
pub(super) fn with_layer(
    session: &Session,
    ground: &Learner,
    layer: &Layer,
) -> Result<Learner, String> {
    let (adapter, sha256) = decode_adapter(&layer.file).map_err(|error| with_causes(&error))?;
    learner(ground, &applied(session, ground, &adapter)?, sha256)
}

fn applied(session: &Session, ground: &Learner, adapter: &AdapterFile) -> Result<Applied, String> {
    let classes: Vec<Arc<Class>> = ground.classes().cloned().collect();
    let ground = Ground {
        base_id: session.base().id,
        adapter: session.base().adapter(),
        state: ground.adapter().map(AsRef::as_ref),
        d_feature: session.base().d_feature(),
        classes: &classes,
    };
    adapter.apply(&ground).map_err(|error| with_causes(&error))
}

fn learner(ground: &Learner, applied: &Applied, sha256: [u8; 32]) -> Result<Learner, String> {
    let known = applied.classes(sha256).map_err(|error| with_causes(&error))?;
    Ok(learner_of(ground.d_feature(), known, applied.state.clone()))
}

/// Builds the resulting network. It must compute finite numbers, and the published answer.
fn try_network(
    session: &mut Session,
    adapter: &AdapterFile,
    applied: &Applied,
) -> Result<Engine, Refusal> {
    let engine = session.engine()?;
    let question = question(engine);
    // Tried first: a device that fails on the current network proves nothing about the next one.
    engine.features(std::slice::from_ref(&question))?;
    let mut next = engine.twin();
    let bad = |error: EdgeError| Refusal::Bad(with_causes(&error));
    next.follow(applied.state.as_ref()).map_err(bad)?;
    let features = next.features(std::slice::from_ref(&question)).map_err(bad)?;
    let feature = features.first().map_or(&[][..], Vec::as_slice);
    let away = adapter.known_answer.distance(feature);
    if away > FARTHEST {
        let why = format!(
            "the network it makes answers the known question otherwise than was published: {away:.3} away, expected at most {FARTHEST}"
        );
        return Err(Refusal::Bad(why));
    }
    Ok(next)
}

/// Returns the known question, as pixels for the network.
fn question(engine: &Engine) -> Vec<f32> {
    let side = engine.preprocess().size;
    test_pattern(3 * side * side)
}

/// Times both networks with their heads in turns, as other work on the device slows both, until the
/// next one was fast enough. Returns the reason if it is too slow; `None` if not.
fn in_time(
    session: &mut Session,
    after: &mut Engine,
    head_after: &Predictor,
) -> Result<Option<String>, EdgeError> {
    fail_point!("update-slow", |_| Ok(Some("a picture takes long with it".to_owned())));
    let head_before = session.predictor()?.clone();
    let before = session.engine()?;
    let pictures = [question(before)];
    let timed = |engine: &mut Engine, head: &Predictor| {
        let started = Instant::now();
        let features = engine.features(&pictures)?;
        for feature in &features {
            std::hint::black_box(head.predict(feature, head.names().len()));
        }
        Ok::<_, EdgeError>(started.elapsed())
    };
    let mut fastest = (Duration::MAX, Duration::MAX);
    for _ in 0..TIMED {
        let took = (timed(before, &head_before)?, timed(after, head_after)?);
        fastest = (fastest.0.min(took.0), fastest.1.min(took.1));
        if fastest.1 <= fastest.0.mul_f64(SLOWER) + SPARE {
            return Ok(None);
        }
    }
    let (before, after) = fastest;
    Ok(Some(format!("a picture takes {after:.0?} with it and {before:.0?} without")))
}

/// Fits the resulting head. By the estimate from their statistics, classes known before must be
/// recognised as well as before.
fn try_head(session: &mut Session, next: &Learner) -> Result<Predictor, Refusal> {
    let before = session.estimate()?.cloned();
    let FittedHead { predictor, estimate, .. } =
        session.fit_to(next).map_err(|error| Refusal::Bad(with_causes(&error)))?;
    let Some(before) = before else { return Ok(predictor) };
    let Some(after) = estimate else {
        // A single class cannot be confused. The loss of the others is checked elsewhere.
        if next.classes().len() < 2 {
            return Ok(predictor);
        }
        return Err(Refusal::Bad("no accuracy can be told with it".to_owned()));
    };
    let shots: f64 = before.classes.iter().map(|class| f64::from(class.shots)).sum();
    let by_class = |estimate: &Estimate| -> HashMap<String, f64> {
        let of = estimate.classes.iter();
        of.filter_map(|class| Some((class.class.key(), class.accuracy?))).collect()
    };
    let before = by_class(&before);
    let after = by_class(&after);
    let pairs = before.iter().filter_map(|(class, b)| Some((b, after.get(class)?)));
    let (sum_before, sum_after, n) = pairs
        .fold((0.0, 0.0, 0_usize), |(b, a, n), (before, after)| (b + before, a + after, n + 1));
    let n = n.max(1) as f64;
    let before = sum_before / n;
    let after = sum_after / n;
    // With few shots, a single one more or less is worth many percent.
    let chance = (before * (1.0 - before) + after * (1.0 - after)) / shots.max(1.0);
    if after < before - WORSE.max(BEYOND_CHANCE * chance.sqrt()) {
        let why = format!(
            "of the classes known before, {:.0} % would be told right, where {:.0} % were",
            100.0 * after,
            100.0 * before
        );
        return Err(Refusal::Bad(why));
    }
    Ok(predictor)
}
