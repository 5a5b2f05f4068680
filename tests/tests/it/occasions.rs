//! Occasions, views and the prior: their statistics, and their effect on the estimates.

use std::sync::Arc;

use fmlora_learner::{
    Class, ClassName, ClassStatistics, FittedHead, HeadChoice, Occasion, Prior, PriorError, Shots,
    UnknownTest, fit_head,
};
use fmlora_models::HalfTensor;
use fmlora_tests::GaussianClasses;

const D: usize = 48;

/// Standard deviation between the occasions of a class. Within an occasion it is 1 in the widest
/// direction.
const BETWEEN: f32 = 0.35;

fn name(index: usize) -> ClassName {
    ClassName::new(&format!("class {index:03}")).expect("a sound name")
}

/// Things that look different on each occasion: a class varies about its mean, an occasion about
/// its class.
struct Things {
    shots: GaussianClasses,
    occasions: GaussianClasses,
}

impl Things {
    fn new(n: usize, seed: u64) -> Self {
        Self {
            shots: GaussianClasses::new(n, D, 0.3, seed),
            occasions: GaussianClasses::new(1, D, 0.0, seed + 77),
        }
    }

    /// Draws shots of a class on a new occasion, with their deviations from the class mean scaled
    /// by `closeness`.
    fn burst(&mut self, class: usize, n: usize, closeness: f32) -> Vec<Vec<f32>> {
        let shift: Vec<f32> = self.occasions.shot(0).iter().map(|v| v * BETWEEN).collect();
        let middle = self.mean(class);
        let shot = |shot: Vec<f32>| {
            let parts = shot.iter().zip(&middle).zip(&shift);
            parts.map(|((x, m), s)| m + s + closeness * (x - m)).collect()
        };
        self.shots.shots(class, n).into_iter().map(shot).collect()
    }

    fn mean(&mut self, class: usize) -> Vec<f32> {
        let many = self.shots.shots(class, 400);
        (0..D).map(|i| many.iter().map(|shot| shot[i]).sum::<f32>() / 400.0).collect()
    }
}

/// Returns a prior of generic classes with pictures of many occasions.
fn prior() -> Prior {
    let mut things = Things::new(40, 5);
    let pictures = |class: usize| -> Vec<Vec<f32>> {
        (0..12).flat_map(|_| things.burst(class, 1, 1.0)).collect()
    };
    Prior::estimate(&(0..40).map(pictures).collect::<Vec<_>>()).expect("enough pictures")
}

fn fit(classes: &[Class], prior: Option<&Prior>) -> FittedHead {
    let classes: Vec<Arc<Class>> = classes.iter().cloned().map(Arc::new).collect();
    fit_head(&classes, D, prior, HeadChoice::Auto, &[]).expect("a head")
}

fn class(index: usize, occasions: &[Vec<Vec<f32>>]) -> Class {
    let first = Class::from_shots(name(index), &occasions[0]).expect("sound shots");
    occasions[1..].iter().fold(first, |class, shots| class.with_shots(shots).expect("sound shots"))
}

#[test]
fn shots_taught_together_are_an_occasion() {
    let mut things = Things::new(1, 1);
    let a = things.burst(0, 4, 0.3);
    let b = things.burst(0, 3, 0.3);
    let once = ClassStatistics::from_shots(&a).expect("sound shots");
    assert_eq!(once.occasions().len(), 1);
    let twice = once.with_shots(&b).expect("sound shots");
    let counts: Vec<u32> = twice.occasions().iter().map(Occasion::count).collect();
    assert_eq!(counts, [4, 3]);
    let merged = once.merged(&ClassStatistics::from_shots(&b).expect("sound shots"));
    assert_eq!(merged.expect("the same feature").occasions().len(), 2);
    // A single shot joins the nearest occasion, so that no single shot is stored.
    let single = twice.with_shots(&b[..1]).expect("a sound shot");
    let counts: Vec<u32> = single.occasions().iter().map(Occasion::count).collect();
    assert_eq!(counts, [4, 4]);
    let begun = ClassStatistics::from_shots(&a[..1]).expect("a sound shot");
    let joined = begun.with_shots(&b).expect("sound shots");
    assert_eq!(joined.occasions().len(), 1, "a first single shot is joined too");
}

#[test]
fn occasions_do_not_grow_without_bound() {
    let mut things = Things::new(1, 2);
    let mut statistics = ClassStatistics::from_shots(&things.burst(0, 2, 0.3)).expect("shots");
    for _ in 0..30 {
        statistics = statistics.with_shots(&things.burst(0, 2, 0.3)).expect("sound shots");
    }
    assert_eq!(statistics.occasions().len(), 8);
    let shots: u32 = statistics.occasions().iter().map(Occasion::count).sum();
    assert_eq!(shots, 62);
    statistics.check(D).expect("sound statistics");
}

/// With one occasion and no views the bytes are those of versions before occasions and views.
#[test]
fn statistics_keep_their_bytes() {
    let mut things = Things::new(1, 3);
    let plain = ClassStatistics::from_shots(&things.burst(0, 4, 1.0)).expect("sound shots");
    let mean = HalfTensor::from_f32(&[D], &plain.mean()).expect("small numbers");
    let bytes = postcard::to_stdvec(&plain).expect("postcard encodes everything");
    let as_before = postcard::to_stdvec(&(plain.count(), mean, plain.scatter()));
    assert_eq!(bytes, as_before.expect("postcard encodes everything"));
    let views = things.burst(0, 6, 0.1);
    let detailed = plain
        .with_shots(&things.burst(0, 3, 1.0))
        .and_then(|s| s.with_views(&views))
        .expect("sound shots");
    for statistics in [plain, detailed] {
        let bytes = postcard::to_stdvec(&vec![statistics.clone(); 2]).expect("encodes");
        let read: Vec<ClassStatistics> = postcard::from_bytes(&bytes).expect("what was written");
        assert_eq!(read, vec![statistics; 2]);
    }
}

#[test]
fn views_are_no_shots() {
    let mut things = Things::new(1, 4);
    let plain = things.burst(0, 5, 1.0);
    let near = things.burst(0, 10, 0.1);
    let mut shots = Shots::default();
    for (place, feature) in plain.iter().enumerate() {
        shots.push(feature.clone(), &near[2 * place..2 * place + 2]);
    }
    let class = Class::from_viewed(name(0), &shots).expect("sound shots");
    assert_eq!(class.count(), 5);
    let mode = &class.modes[0];
    assert!(mode.scatter().rank() <= 4 && (1..=4).contains(&mode.views().rank()));
    let mean = |values: &[Vec<f32>], i: usize| {
        values.iter().map(|v| v[i]).sum::<f32>() / values.len() as f32
    };
    for (i, value) in mode.mean().iter().enumerate() {
        let expected = (mean(&plain, i) + 2.0 * mean(&near, i)) / 3.0;
        assert!((value - expected).abs() < 1e-2, "{value} {expected}");
    }
}

#[test]
fn the_prior_is_what_generic_classes_are_like() {
    let mut source = GaussianClasses::new(60, D, 0.5, 9);
    let classes: Vec<Vec<Vec<f32>>> = (0..60).map(|c| source.shots(c, 20)).collect();
    let prior = Prior::estimate(&classes).expect("enough pictures");
    prior.check(D).expect("a sound prior");
    assert_eq!(prior.means().len(), 60);
    // Deviations fall from 1 to 1/4: the leading variance is near 1, and the floor is far below.
    let leading: f32 = prior.directions().values()[..D].iter().map(|v| v * v).sum();
    assert!((0.9..1.4).contains(&leading), "{leading}");
    assert!((0.02..0.3).contains(&prior.floor()), "{}", prior.floor());
    let too_few = Prior::estimate(&[source.shots(0, 3), source.shots(1, 1)]);
    assert_eq!(too_few, Err(PriorError::TooFewClasses { classes: 1 }));
    assert!(prior.check(D + 1).is_err());
}

/// One shot each: the prior gives the head the directions in which things vary, and the untaught
/// things.
#[test]
fn a_prior_serves_where_little_was_taught() {
    let prior = prior();
    let mut source = GaussianClasses::new(12, D, 0.5, 21);
    let taught: Vec<Class> = (0..6).map(|c| class(c, &[source.shots(c, 1)])).collect();
    let [with, without] = [Some(&prior), None].map(|prior| fit(&taught, prior).predictor);
    let right = |head: &fmlora_learner::Predictor, source: &mut GaussianClasses| {
        let mut told = |i: usize| {
            head.predict(&source.shot(i % 6), 1).top[0].class.as_str() == name(i % 6).as_str()
        };
        (0..300).map(&mut told).filter(|&right| right).count()
    };
    let with_prior = right(&with, &mut source);
    let alone = right(&without, &mut source);
    assert!(with_prior >= alone, "{with_prior} with a prior, {alone} without, of 300");
    assert!(matches!(with.unknown_test(), UnknownTest::Evidence { .. }));
    // A single class of one shot also gives a head.
    let single = fit(&taught[..1], Some(&prior));
    assert!(single.estimate.is_none());
    assert!(single.predictor.predict(&source.shot(0), 1).top[0].confidence.is_finite());
}

/// Confidence includes the chance that the thing is none of the taught classes.
#[test]
fn confidence_is_lower_for_unknown_things_than_for_taught_ones() {
    let prior = prior();
    let mut source = GaussianClasses::new(12, D, 0.6, 33);
    let taught: Vec<Class> = (0..3).map(|c| class(c, &[source.shots(c, 12)])).collect();
    let head = fit(&taught, Some(&prior)).predictor;
    let mut mean = |classes: std::ops::Range<usize>| {
        let n = classes.len() * 40;
        let sure = |i: usize| {
            let class = classes.start + i % classes.len();
            let prediction = head.predict(&source.shot(class), 3);
            let all: f32 = prediction.top.iter().map(|guess| guess.confidence).sum();
            assert!(all <= 1.0 + 1e-5, "{all}");
            (prediction.top[0].confidence, f32::from(u8::from(prediction.unknown)))
        };
        let sums = (0..n).map(sure).fold((0.0, 0.0), |(a, b), (c, u)| (a + c, b + u));
        (sums.0 / n as f32, sums.1 / n as f32)
    };
    let (known, alarms) = mean(0..3);
    let (strange, found) = mean(3..12);
    assert!(known > strange + 0.1, "{known} of known things, {strange} of strange ones");
    assert!(alarms < 0.1 && found > alarms, "{alarms} false alarms, {found} found");
}

/// Things taught in one burst each: leaving out single shots gives an estimate far above the
/// accuracy on another occasion.
#[test]
fn a_burst_lowers_the_estimate_for_another_day() {
    let prior = prior();
    let mut things = Things::new(12, 40);
    let bursts: Vec<Class> = (0..12).map(|c| class(c, &[things.burst(c, 8, 0.3)])).collect();
    let head = fit(&bursts, Some(&prior));
    let estimate = head.estimate.expect("judged");
    let mut right = 0;
    for i in 0..360 {
        let shot = things.burst(i % 12, 1, 1.0).remove(0);
        let top = head.predictor.predict(&shot, 1).top;
        right += usize::from(top[0].class == name(i % 12));
    }
    let truth = right as f64 / 360.0;
    let alike = estimate.accuracy;
    let another = estimate.another_day;
    eprintln!("like the shots {alike:.3}, another day {another:.3}, true {truth:.3}");
    assert!(alike > 0.95 && another < alike - 0.05, "{alike} {another}");
    assert!((another - truth).abs() < (alike - truth).abs(), "{another} {alike}, true {truth}");
    assert!(estimate.after_one_more >= another, "another occasion would help");
    assert!(estimate.classes.iter().all(|class| (class.occasions - 1.0).abs() < 1e-9));
}

/// A burst taught in parts is one occasion; bursts of other days count as more.
#[test]
fn occasions_count_as_far_as_they_differ() {
    let prior = prior();
    let mut things = Things::new(8, 50);
    let mut same = Vec::new();
    let mut other = Vec::new();
    for c in 0..8 {
        let burst = things.burst(c, 12, 0.3);
        let thirds: Vec<Vec<Vec<f32>>> = burst.chunks(4).map(<[Vec<f32>]>::to_vec).collect();
        same.push(class(c, &thirds));
        let days: Vec<_> = (0..3).map(|_| things.burst(c, 4, 0.3)).collect();
        other.push(class(c, &days));
    }
    let occasions = |classes: &[Class]| {
        let estimate = fit(classes, Some(&prior)).estimate.expect("judged");
        let sum: f64 = estimate.classes.iter().map(|class| class.occasions).sum();
        (sum / 8.0, estimate.another_day)
    };
    let (alike, _) = occasions(&same);
    let (apart, _) = occasions(&other);
    assert!(alike < 1.4, "one burst in three parts counts as {alike} occasions");
    assert!(apart > 1.7, "three days count as {apart} occasions");
}

/// Shots that hardly differ are reported as alike.
#[test]
fn shots_that_are_all_alike_are_reported() {
    let prior = prior();
    let mut things = Things::new(4, 60);
    let classes: Vec<Class> =
        (0..4).map(|c| class(c, &[things.burst(c, 6, if c == 0 { 0.05 } else { 1.0 })])).collect();
    let estimate = fit(&classes, Some(&prior)).estimate.expect("judged");
    let alike: Vec<bool> = estimate.classes.iter().map(|class| class.alike).collect();
    assert_eq!(alike, [true, false, false, false]);
}
