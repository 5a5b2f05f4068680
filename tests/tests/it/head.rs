//! Heads and their accuracy estimates, against classes with a known distribution.

use std::sync::Arc;

use fmlora_learner::{Class, ClassName, FittedHead, HeadChoice, UnknownTest, fit_head};
use fmlora_tests::GaussianClasses;

fn class(index: usize, shots: &[Vec<f32>]) -> Arc<Class> {
    let name = ClassName::new(&format!("class {index:03}")).expect("a sound name");
    Arc::new(Class::from_shots(name, shots).expect("sound shots"))
}

fn taught(source: &mut GaussianClasses, counts: &[usize]) -> Vec<Arc<Class>> {
    counts.iter().enumerate().map(|(i, &n)| class(i, &source.shots(i, n))).collect()
}

fn fit(classes: &[Arc<Class>], choice: HeadChoice) -> FittedHead {
    fit_head(classes, classes[0].modes[0].d_feature(), None, choice, &[]).expect("a head")
}

/// Returns the accuracy on new shots of some classes, and the share of them called unknown.
fn measure(
    head: &FittedHead,
    source: &mut GaussianClasses,
    classes: impl Iterator<Item = usize>,
) -> (f64, f64) {
    let mut n = 0;
    let mut right = 0;
    let mut unknown = 0;
    for i in classes {
        for _ in 0..40 {
            let prediction = head.predictor.predict(&source.shot(i), 1);
            let named = prediction.top[0].class.as_str();
            right += usize::from(named == format!("class {i:03}"));
            unknown += usize::from(prediction.unknown);
            n += 1;
        }
    }
    (right as f64 / f64::from(n), unknown as f64 / f64::from(n))
}

/// For Gaussian classes the stand-ins are distributed as shots are, so the estimate must match. It
/// is slightly low, because of the factor that real classes need.
#[test]
fn the_expected_accuracy_comes_true() {
    for (shots, distance) in [(6, 0.35), (12, 0.25), (40, 0.2)] {
        let mut source = GaussianClasses::new(20, 60, distance, shots as u64);
        let head = fit(&taught(&mut source, &[shots; 20]), HeadChoice::Auto);
        let (accuracy, _) = measure(&head, &mut source, 0..20);
        let expected = head.estimate.as_ref().expect("judged").accuracy;
        eprintln!("{shots} shots: expected {expected:.3}, true {accuracy:.3}");
        // Three standard errors of at least 120 stand-ins and 800 new shots.
        assert!((expected - accuracy).abs() < 0.12, "expected {expected}, true {accuracy}");
    }
}

#[test]
fn confidence_is_careful_and_few_of_the_taught_are_strangers() {
    let mut source = GaussianClasses::new(20, 60, 0.25, 3);
    let head = fit(&taught(&mut source, &[15; 20]), HeadChoice::Auto);
    let (accuracy, unknown) = measure(&head, &mut source, 0..20);
    let mut confidence = 0.0;
    for i in 0..400 {
        let prediction = head.predictor.predict(&source.shot(i % 20), 1);
        confidence += f64::from(prediction.top[0].confidence) / 400.0;
    }
    // Without a prior nothing shows that these shots are as diverse as the later pictures.
    let careful = accuracy - confidence;
    assert!((-0.05..0.3).contains(&careful), "confidence {confidence}, accuracy {accuracy}");
    // The threshold is set for other occasions.
    assert!(unknown < 0.12, "{unknown} of the taught are called unknown");
}

/// A class mean of few shots is noisy and looks far from everything. If the noise were not
/// subtracted from the distances, classes with few shots would hardly ever be predicted.
#[test]
fn classes_with_few_shots_are_named_too() {
    let counts: Vec<usize> = (0..20).map(|i| if i % 2 == 0 { 3 } else { 60 }).collect();
    let mut source = GaussianClasses::new(20, 200, 0.25, 8);
    let head = fit(&taught(&mut source, &counts), HeadChoice::Auto);
    let (few, _) = measure(&head, &mut source, (0..20).step_by(2));
    let (many, _) = measure(&head, &mut source, (1..20).step_by(2));
    eprintln!("3 shots {few:.3}, 60 shots {many:.3}");
    assert!(few > 0.4, "classes of 3 shots are told in {few} of cases, of 60 shots in {many}");
}

/// LDA uses the different spread of the directions; the nearest mean does not.
#[test]
fn much_data_beats_the_nearest_mean() {
    let mut source = GaussianClasses::new(10, 40, 0.2, 5);
    let classes = taught(&mut source, &[100; 10]);
    let auto = fit(&classes, HeadChoice::Auto);
    let nearest = fit(&classes, HeadChoice::NearestMean);
    assert!(auto.predictor.shrinkage() < 1.0);
    let (auto, _) = measure(&auto, &mut source, 0..10);
    let (nearest, _) = measure(&nearest, &mut source, 0..10);
    assert!(auto > nearest + 0.02, "auto {auto}, nearest mean {nearest}");
}

#[test]
fn the_least_data_give_a_head_too() {
    let mut source = GaussianClasses::new(3, 16, 3.0, 2);
    let empty = fit_head(&[], 16, None, HeadChoice::Auto, &[]).expect("a head of nothing");
    let nothing = empty.predictor.predict(&source.shot(0), 3);
    assert!(nothing.unknown && nothing.top.is_empty());

    let single = fit(&taught(&mut source, &[1]), HeadChoice::Auto);
    assert_eq!(single.predictor.unknown_test(), UnknownTest::Never);
    assert_eq!(single.predictor.predict(&source.shot(0), 3).top.len(), 1);

    let one_class = fit(&taught(&mut source, &[8]), HeadChoice::Auto);
    assert!(one_class.estimate.is_none(), "one class cannot be confused with another");
    assert!(!one_class.predictor.predict(&source.shot(0), 1).unknown);
    assert!(one_class.predictor.predict(&source.shot(1), 1).unknown, "far from the only class");

    let one_shot_each = fit(&taught(&mut source, &[1, 1, 1]), HeadChoice::Auto);
    assert!(one_shot_each.estimate.is_none(), "nothing can be left out");
    let (accuracy, _) = measure(&one_shot_each, &mut source, 0..3);
    assert!(accuracy > 0.9, "three classes far apart: {accuracy}");

    // Shots without any spread: the same picture repeated.
    let still: Vec<Arc<Class>> = (0..3).map(|i| class(i, &vec![source.shot(i); 5])).collect();
    let still = fit(&still, HeadChoice::Auto);
    assert!(still.predictor.scores(&source.shot(1)).iter().all(|s| s.is_finite()));
}

/// A class of two kinds on both sides of another class: a common mean would be inside the other
/// class.
#[test]
fn a_class_of_two_kinds_is_told_from_what_lies_between() {
    let mut source = GaussianClasses::new(1, 12, 0.0, 8);
    let mut shots = |shift: f32, n: usize| -> Vec<Vec<f32>> {
        let moved = |shot: Vec<f32>| shot.into_iter().map(|v| v + shift).collect();
        (0..n).map(|_| moved(source.shot(0))).collect()
    };
    let between = shots(0.0, 30);
    let left = shots(-1.5, 30);
    let right = shots(1.5, 30);
    let two = class(1, &left).with_shots(&right).expect("sound shots");
    assert_eq!(two.modes.len(), 2);
    let one = Class { modes: vec![two.as_one_mode().expect("finite")], ..two.clone() };
    let accuracy = |kinds: Class, shots: &mut dyn FnMut(f32, usize) -> Vec<Vec<f32>>| {
        let head = fit(&[class(0, &between), Arc::new(kinds)], HeadChoice::SharedCovariance);
        let told = |shot: &Vec<f32>, name: &str| {
            head.predictor.predict(shot, 1).top[0].class.as_str() == name
        };
        let right: usize = [(0.0, "class 000"), (-1.5, "class 001"), (1.5, "class 001")]
            .into_iter()
            .map(|(at, name)| shots(at, 50).iter().filter(|shot| told(shot, name)).count())
            .sum();
        let expected = head.estimate.expect("judged").accuracy;
        (right as f64 / 150.0, expected)
    };
    let (with_modes, expected) = accuracy(two, &mut shots);
    let (without, _) = accuracy(one, &mut shots);
    assert!(with_modes > 0.95 && without < 0.8, "{with_modes} with modes, {without} without");
    assert!((expected - with_modes).abs() < 0.06, "expected {expected}, true {with_modes}");
}
