//! Everything that can be tried of an adapter before it is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fmlora_learner::format::{AdapterFile, Applied, Ground, decode_adapter};
use fmlora_learner::{Class, Estimate, Learner, test_pattern};

use super::difference::learner_of;
use super::layers::Layer;
use super::offer::Offered;
use crate::report::with_causes;
use crate::{EdgeError, Engine, Session};

/// How far the known answer may be off: f16 rounds by less than .001, products in f16 by some more.
const FARTHEST: f32 = 0.02;

/// How much longer a picture may take.
const SLOWER: f64 = 2.0;

/// What a system may take for something else at any time.
const SPARE: Duration = Duration::from_millis(2);

/// Pictures that are timed with each of the two networks at most; the fastest counts.
const TIMED: usize = 20;

/// By how much the accuracy to expect on classes known before may fall.
const WORSE: f64 = 0.10;

/// An adapter that may be put to use.
pub(super) struct Staged {
    /// What there will be with it, and then with each of the adapters that lie on it.
    pub(super) steps: Vec<Learner>,
    /// Classes that would be lost, for want of a drift map.
    pub(super) lost: Vec<String>,
}

/// Why an adapter is not put to use.
pub(super) enum Refusal {
    /// It is not what it should be, and never will be.
    Bad(String),
    /// It did not pass, which may be its fault or that of what else the box does.
    Perhaps(String),
    /// Something else went wrong, which may be over the next time.
    Failed(EdgeError),
}

impl From<EdgeError> for Refusal {
    fn from(error: EdgeError) -> Self {
        Self::Failed(error)
    }
}

/// Reads an adapter, computes what follows from using it on `ground` and those of `above` on it, and tries the network
/// and the head that do. The ground is what the session knows, or what it knew before an adapter that this one replaces.
pub(super) fn stage(
    session: &mut Session,
    ground: &Learner,
    offered: &Offered,
    file: &[u8],
    above: &[Layer],
) -> Result<Staged, Refusal> {
    let bad = |error: &dyn std::error::Error| Refusal::Bad(with_causes(error));
    let (adapter, _) = decode_adapter(file).map_err(|e| bad(&e))?;
    offered.offer.check(&adapter.facts).map_err(|e| bad(&e))?;
    let applied = applied(session, ground, &adapter).map_err(Refusal::Bad)?;
    let lost = match applied.known {
        Some(_) => Vec::new(),
        None => ground.classes().map(|class| class.name.to_string()).collect(),
    };
    try_network(session, &adapter, &applied)?;
    let mut next = learner(ground, applied).map_err(Refusal::Bad)?;
    let mut steps = vec![next.clone()];
    for layer in above {
        let (adapter, _) = decode_adapter(&layer.file).map_err(|e| bad(&e))?;
        let applied = self::applied(session, &next, &adapter).map_err(Refusal::Bad)?;
        next = learner(&next, applied).map_err(Refusal::Bad)?;
        steps.push(next.clone());
    }
    try_head(session, &next)?;
    Ok(Staged { steps, lost })
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

fn learner(ground: &Learner, applied: Applied) -> Result<Learner, String> {
    let known = applied.classes().map_err(|error| with_causes(&error))?;
    Ok(learner_of(ground.d_feature(), known, applied.state))
}

/// Whether the network computes what was published, numbers at all, and in time.
fn try_network(
    session: &mut Session,
    adapter: &AdapterFile,
    applied: &Applied,
) -> Result<(), Refusal> {
    let engine = session.engine()?;
    let mut next = engine.twin();
    next.follow(applied.state.as_ref())?;
    let side = engine.preprocess().size;
    let question = test_pattern(3 * side * side);
    // A device that fails on the network there is says nothing of the next one.
    engine.features(std::slice::from_ref(&question))?;
    let features = next.features(std::slice::from_ref(&question));
    let features = features.map_err(|error| Refusal::Bad(with_causes(&error)))?;
    let feature = features.first().map_or(&[][..], Vec::as_slice);
    let away = adapter.known_answer.distance(feature);
    if away > FARTHEST {
        let why = format!(
            "the network it makes answers the known question otherwise than was published: {away:.3} away, expected at most {FARTHEST}"
        );
        return Err(Refusal::Bad(why));
    }
    match in_time(engine, &mut next, &question)? {
        None => Ok(()),
        Some(why) => Err(Refusal::Perhaps(why)),
    }
}

/// Times both networks in turns, since what else the box does slows both, until the next one was quick enough; `None` if it
/// was.
fn in_time(
    before: &mut Engine,
    after: &mut Engine,
    picture: &[f32],
) -> Result<Option<String>, EdgeError> {
    let pictures = [picture.to_vec()];
    let timed = |engine: &mut Engine| {
        let started = Instant::now();
        engine.features(&pictures).map(|_| started.elapsed())
    };
    let mut fastest = (Duration::MAX, Duration::MAX);
    for _ in 0..TIMED {
        fastest = (fastest.0.min(timed(before)?), fastest.1.min(timed(after)?));
        if fastest.1 <= fastest.0.mul_f64(SLOWER) + SPARE {
            return Ok(None);
        }
    }
    let (before, after) = fastest;
    Ok(Some(format!("a picture takes {after:.0?} with it and {before:.0?} without")))
}

/// Whether classes known before are told as well as before, as far as their statistics say.
fn try_head(session: &mut Session, next: &Learner) -> Result<(), Refusal> {
    let Some(before) = session.estimate()?.cloned() else { return Ok(()) };
    let Some(after) = session.fit_to(next)?.estimate else {
        // One class is confused with nothing; whether the others may be lost is asked elsewhere.
        if next.classes().len() < 2 {
            return Ok(());
        }
        return Err(Refusal::Bad("no accuracy can be told with it".to_owned()));
    };
    let by_class = |estimate: &Estimate| -> HashMap<String, f64> {
        let of = estimate.classes.iter();
        of.filter_map(|class| Some((class.class.key(), class.accuracy?))).collect()
    };
    let (before, after) = (by_class(&before), by_class(&after));
    let pairs = before.iter().filter_map(|(class, b)| Some((b, after.get(class)?)));
    let (sum_before, sum_after, n) = pairs
        .fold((0.0, 0.0, 0_usize), |(b, a, n), (before, after)| (b + before, a + after, n + 1));
    let n = n.max(1) as f64;
    let (before, after) = (sum_before / n, sum_after / n);
    if after < before - WORSE {
        let why = format!(
            "of the classes known before, {:.0} % would be told right, where {:.0} % were",
            100.0 * after,
            100.0 * before
        );
        return Err(Refusal::Bad(why));
    }
    Ok(())
}
