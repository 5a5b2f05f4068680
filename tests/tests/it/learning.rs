//! Forgetting, undo and order: the learner's state depends only on the classes taught and not
//! forgotten.

use std::sync::Arc;

use fmlora_learner::{
    Class, ClassName, HeadChoice, LearnError, Learner, OperationKind, Predictor, fit_head,
};
use fmlora_tests::GaussianClasses;

const D: usize = 24;
const NAMES: [&str; 4] = ["cup", "plant", "keys", "lamp"];

fn name(text: &str) -> ClassName {
    ClassName::new(text).expect("a sound name")
}

fn teach(learner: &mut Learner, class: &str, shots: Vec<Vec<f32>>) {
    let operation = learner.teach(OperationKind::Teach, &[(name(class), shots.into())]);
    learner.apply(&operation.expect("sound shots"));
}

fn head(learner: &Learner) -> Predictor {
    let classes: Vec<Arc<Class>> = learner.classes().cloned().collect();
    fit_head(&classes, D, None, HeadChoice::Auto, &[]).expect("a head").predictor
}

/// Returns each class's shots, the same at every call.
fn shots(class: usize) -> Vec<Vec<f32>> {
    GaussianClasses::new(NAMES.len(), D, 1.0, 11).shots(class, 6 + class)
}

#[test]
fn a_forgotten_class_leaves_nothing_behind() {
    let mut never_saw = Learner::new(D);
    let mut forgot = Learner::new(D);
    for class in [0, 2, 3] {
        teach(&mut never_saw, NAMES[class], shots(class));
    }
    for (class, name) in NAMES.iter().enumerate() {
        teach(&mut forgot, name, shots(class));
    }
    let before = head(&forgot);
    let operation = forgot.forget(&name("PLANT")).expect("known in any spelling");
    forgot.apply(&operation);
    // Equal to the bit: the statistics, and everything computed from them.
    assert_eq!(forgot, never_saw);
    assert_eq!(head(&forgot), head(&never_saw));
    let back = operation.changes[0].before.as_deref().expect("what was forgotten").clone();
    forgot.apply(&forgot.import(vec![back], false).expect("its name is free again"));
    assert_eq!(head(&forgot), before, "what an operation says of before brings all of it back");
}

#[test]
fn the_order_of_classes_does_not_matter() {
    let mut one = Learner::new(D);
    let mut other = Learner::new(D);
    for class in 0..4 {
        teach(&mut one, NAMES[class], shots(class));
        teach(&mut other, NAMES[3 - class], shots(3 - class));
    }
    assert_eq!(one, other);
    assert_eq!(head(&one), head(&other));
}

#[test]
fn the_order_and_grouping_of_shots_do_not_matter_beyond_rounding() {
    let mut at_once = Learner::new(D);
    let mut one_by_one = Learner::new(D);
    for (class, name) in NAMES.iter().enumerate() {
        teach(&mut at_once, name, shots(class));
    }
    for round in 0..9 {
        for (class, name) in NAMES.iter().enumerate() {
            if let Some(shot) = shots(class).into_iter().rev().nth(round) {
                teach(&mut one_by_one, name, vec![shot]);
            }
        }
    }
    let a = head(&at_once);
    let b = head(&one_by_one);
    assert!((a.shrinkage() - b.shrinkage()).abs() < f32::EPSILON);
    let mut source = GaussianClasses::new(NAMES.len(), D, 1.0, 99);
    for class in 0..4 {
        let feature = source.shot(class);
        let a = a.scores(&feature);
        let b = b.scores(&feature);
        let largest = a.iter().fold(1.0f32, |m, s| m.max(s.abs()));
        for (x, y) in a.iter().zip(&b) {
            // Means and scatters are rounded to f16 (11 bits) at each operation.
            assert!((x - y).abs() < 0.02 * largest, "{x} and {y}");
        }
    }
}

#[test]
fn invalid_operations_are_refused_and_change_nothing() {
    let mut learner = Learner::new(D);
    teach(&mut learner, "cup", shots(0));
    teach(&mut learner, "plant", shots(1));
    let before = learner.clone();
    let twice = [(name("key"), shots(2).into()), (name("KEY"), shots(3).into())];
    let refusals = [
        learner.forget(&name("lamp")),
        learner.rename(&name("lamp"), &name("light")),
        learner.rename(&name("cup"), &name("Plant")),
        learner.teach(OperationKind::Learn, &twice),
        learner.teach(OperationKind::Teach, &[(name("key"), vec![vec![0.0; D - 1]].into())]),
        learner.teach(OperationKind::Teach, &[(name("key"), Vec::new().into())]),
    ];
    for refusal in refusals {
        assert!(refusal.is_err());
    }
    let error = learner.forget(&name("lamp")).expect_err("never taught").to_string();
    assert!(error.contains("cup, plant"), "the error says what is known: {error}");
    let copy: Vec<Class> = learner.classes().map(|c| c.as_ref().clone()).collect();
    let taken = learner.import(copy.clone(), false);
    assert!(matches!(taken, Err(LearnError::Exists { .. })));
    assert!(learner.import(copy, true).is_ok());
    assert_eq!(learner, before);
}

#[test]
fn rename_keeps_everything_but_the_name() {
    let mut learner = Learner::new(D);
    teach(&mut learner, "cup", shots(0));
    let before = learner.class(&name("cup")).expect("taught").modes.clone();
    learner.apply(&learner.rename(&name("cup"), &name("Cup")).expect("another spelling"));
    learner.apply(&learner.rename(&name("Cup"), &name("mug")).expect("a free name"));
    assert_eq!(learner.class(&name("mug")).expect("renamed").modes, before);
    assert!(learner.class(&name("cup")).is_err());
}
