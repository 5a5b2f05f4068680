//! Adapter files: encoding and decoding, rejection of files that do not fit, and application to a
//! device.

use std::sync::Arc;

use fmlora_learner::format::{
    AdapterFacts, AdapterFile, AdapterFileError, AdapterName, ApplyError, DaemonVersion, FileKind,
    Ground, HEADER_BYTES, MeasuredAccuracy, decode_adapter, encode_adapter, seal,
};
use fmlora_learner::{
    Adapter, AdapterTask, BaseId, ByteRows, Class, ClassName, Complexity, DriftMap, HeadChoice,
    KnownAnswer, LowRankDrift, Matrix, Offer, Rollout, SharedBases, SharedBasis, TaskFactors,
    TaskSummary, TaskUpdate, fit_head,
};
use fmlora_models::{Place, Site};
use fmlora_tests::{GaussianClasses, wave_matrix};
use proptest::prelude::*;

const D: usize = 24;
const RANK: usize = 4;
const BASE: [u8; 32] = [7; 32];

fn places() -> Vec<Place> {
    [Site::Query, Site::Value].map(|site| Place { block: 2, site }).to_vec()
}

/// Returns bases of two layers, with a prompt of one token.
fn bases() -> Adapter {
    let of_layer = |&place: &Place| {
        let a = wave_matrix(8, RANK, 1.3);
        (place, SharedBasis { a, b: wave_matrix(8, RANK, 0.7) })
    };
    let bases = SharedBases::new(RANK, places().iter().map(of_layer).collect());
    Adapter::new(Arc::new(bases), Some(wave_matrix(1, 8, 0.9))).rounded().expect("small numbers")
}

/// Returns a task of rank 2 in these bases, a different one for each seed.
fn task(seed: f32) -> AdapterTask {
    let factors = |&place: &Place| {
        let m = wave_matrix(RANK, 2, 1.1 + seed);
        (place, TaskFactors { m, n: wave_matrix(RANK, 2, 2.3) })
    };
    let gram = |&place: &Place| (place, Matrix::identity(RANK));
    let update = TaskUpdate {
        rank: 2,
        factors: places().iter().map(factors).collect(),
        prompt_step: Some(wave_matrix(1, 8, 0.3)),
    };
    let grams = places().iter().map(gram).collect();
    AdapterTask { update, weight: 0.5, grams, n_pictures: 40 }.rounded().expect("small numbers")
}

fn classes(names: &[&str], distance: f32, seed: u64) -> Vec<Arc<Class>> {
    let mut source = GaussianClasses::new(names.len(), D, distance, seed);
    let class = |(i, name): (usize, &&str)| {
        let name = ClassName::new(name).expect("a sound name");
        Arc::new(Class::from_shots(name, &source.shots(i, 40)).expect("sound shots"))
    };
    names.iter().enumerate().map(class).collect()
}

/// Returns a feature after a small drift along a few directions.
fn went(x: &[f32]) -> Vec<f32> {
    (0..D).map(|i| x[i] + 0.2 * x[i / 8] + 0.05).collect()
}

fn drift() -> LowRankDrift {
    let before = GaussianClasses::new(1, D, 1.0, 5).shots(0, 200);
    let after: Vec<Vec<f32>> = before.iter().map(|x| went(x)).collect();
    let map = DriftMap::fit(&before, &after, 1e-9).expect("sound features");
    map.low_rank(&before, 3).expect("finite features")
}

fn facts(release: u64) -> AdapterFacts {
    let base_id = BaseId::new(BASE);
    AdapterFacts {
        name: AdapterName::new("garden").expect("a sound name"),
        base_id,
        space_before: base_id.feature_space(),
        space_after: base_id.feature_space(),
        release,
        min_daemon: DaemonVersion { major: 0, minor: 1, patch: 0 },
    }
}

/// Returns an adapter with statistics alone.
fn rank_0() -> AdapterFile {
    let summary = TaskSummary::of(&classes(&["cup", "plant"], 1.0, 1), 6);
    AdapterFile {
        facts: facts(3),
        task: None,
        drift: None,
        summary: summary.expect("sound classes"),
        complexity: Complexity { difficulty: 0.25, novelty: 0.5, evidence: 0.4 },
        rank: 0,
        accuracy: Some(MeasuredAccuracy { with: 0.75, without: 0.5, n_pictures: 8 }),
        known_answer: KnownAnswer::of(&[0.5; D]).expect("finite numbers"),
    }
}

/// Returns an adapter with a task that changes the network.
fn adapted() -> AdapterFile {
    let after = bases().with_task(&task(0.0)).expect("small numbers");
    let space_after = facts(3).base_id.feature_space_after(after.state()).expect("finite");
    AdapterFile {
        facts: AdapterFacts { space_after, ..facts(3) },
        task: Some(task(0.0)),
        drift: Some(drift()),
        rank: 2,
        ..rank_0()
    }
}

fn encoded(file: &AdapterFile) -> Vec<u8> {
    encode_adapter(file).expect("a sound adapter")
}

#[test]
fn an_adapter_that_is_written_is_read_and_written_alike() {
    for file in [rank_0(), adapted()] {
        let bytes = encoded(&file);
        let (read, sha256) = decode_adapter(&bytes).expect("what was just written");
        assert_eq!(encoded(&read), bytes);
        assert_eq!(sha256, bytes[16..48]);
        assert_eq!((read.facts, read.task), (file.facts, file.task));
    }
}

#[test]
fn an_adapter_with_a_bit_flipped_or_cut_is_noticed() {
    let file = encoded(&adapted());
    for length in 0..file.len() {
        assert!(decode_adapter(&file[..length]).is_err(), "cut to {length} bytes");
    }
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_adapter(&flipped).is_err(), "bit {bit} flipped");
    }
    assert!(decode_adapter(&[file, vec![0]].concat()).is_err(), "a byte too many");
}

#[test]
fn parts_of_an_adapter_that_do_not_fit_are_named() {
    type Change = fn(&mut AdapterFile);
    let cases: [(&str, Change); 14] = [
        ("the change of the network is missing", |f| f.task = None),
        ("the feature space after", |f| f.facts.space_after = f.facts.space_before),
        ("the rank of the factors is 2, expected 3", |f| f.rank = 3),
        ("the number of classes is 0", |f| f.summary.classes.clear()),
        ("\"cup\" twice", |f| f.summary.classes[1].name = f.summary.classes[0].name.clone()),
        ("the number of shots of a class is 0", |f| f.summary.classes[0].count = 0),
        ("the energy of a class is NaN", |f| f.summary.classes[0].energy = f32::NAN),
        ("a mean is 1 x 3, expected 1 x 24", |f| {
            f.summary.classes[0].mean = Matrix::zeros(1, 3);
        }),
        ("a share among complexity and accuracy is NaN", |f| f.complexity.novelty = f64::NAN),
        ("the known answer", |f| f.known_answer = KnownAnswer::of(&[0.5]).expect("finite")),
        ("the weight of the merge is 0", |f| change_task(f, |t| t.weight = 0.0)),
        ("a factor is 3 x 2, expected 4 x 2", |f| {
            change_task(f, |t| {
                for (_, factors) in t.update.factors.iter_mut().skip(1) {
                    factors.m = Matrix::zeros(3, 2);
                }
            });
        }),
        ("the layers of the grams", |f| change_task(f, |t| t.grams.clear())),
        ("the number of pictures learnt is 0", |f| change_task(f, |t| t.n_pictures = 0)),
    ];
    let mut wrong = Vec::new();
    for (words, change) in cases {
        let mut file = adapted();
        change(&mut file);
        // Sealed without the checks of the encoder, as a faulty or hostile program would do.
        let content = postcard::to_stdvec(&file).expect("postcard encodes everything");
        match decode_adapter(&seal(FileKind::Adapter, &content)) {
            Err(error) if error.to_string().contains(words) => {
                assert!(encode_adapter(&file).is_err(), "{words}");
            }
            other => wrong.push((words, other.map(|_| ()).map_err(|e| e.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let huge = vec![0; fmlora_learner::format::MAX_ADAPTER_BYTES + 1];
    assert!(matches!(decode_adapter(&huge), Err(AdapterFileError::TooLarge { .. })));
}

fn change_task(file: &mut AdapterFile, change: impl Fn(&mut AdapterTask)) {
    change(file.task.as_mut().expect("a task"));
}

#[test]
fn an_adapter_without_a_task_changes_no_feature() {
    let file = rank_0();
    let known = classes(&["tool"], 1.0, 9);
    let ground = Ground {
        base_id: BaseId::new(BASE),
        adapter: None,
        state: None,
        d_feature: D,
        classes: &known,
    };
    let applied = file.apply(&ground).expect("it fits");
    assert_eq!((applied.space, &applied.state), (file.facts.space_before, &None));
    assert_eq!(applied.known.as_deref(), Some(known.as_slice()), "to the bit");
    let all = applied.classes([1; 32]).expect("sound classes");
    let names: Vec<&str> = all.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["tool", "cup", "plant"]);
    for class in &all {
        class.check(D).expect("statistics that a device may keep");
    }
}

#[test]
fn an_adapter_may_bring_one_class() {
    let brought = classes(&["cup"], 1.0, 1);
    let summary = TaskSummary::of(&brought, 6).expect("a sound class");
    let all = summary.to_classes().expect("sound numbers");
    assert_eq!((all.len(), all[0].count()), (1, brought[0].count()));
    all[0].check(D).expect("statistics that a device may keep");
    let energies = all[0].modes[0].energy() / brought[0].modes[0].energy();
    // The six longest of 24 directions, and noise in place of the others.
    assert!((0.9..1.1).contains(&energies), "{energies}");
    // A hostile file: rows of zeros.
    let zeros = [0.0; D];
    let scatter = ByteRows::new(D, [&zeros[..], &zeros]);
    let flat = TaskSummary { scatter, ..summary }.to_classes().expect("no panic");
    flat[0].check(D).expect("statistics that a device may keep");
}

#[test]
fn an_adapter_moves_known_classes_and_leads_to_the_features_that_it_says() {
    let file = adapted();
    let known = classes(&["tool"], 1.0, 9);
    let bases = bases();
    let ground = Ground {
        base_id: BaseId::new(BASE),
        adapter: Some(&bases),
        state: None,
        d_feature: D,
        classes: &known,
    };
    let (file, _) = decode_adapter(&encoded(&file)).expect("what was just written");
    let applied = file.apply(&ground).expect("it fits");
    assert_eq!(applied.space, file.facts.space_after);
    let moved = applied.known.as_ref().expect("a drift map");
    assert_eq!(moved[0].count(), known[0].count());
    let truth = went(&known[0].modes[0].mean());
    for (a, b) in moved[0].modes[0].mean().iter().zip(&truth) {
        // The drift fits in three columns; the error is that of eight bits and f16.
        assert!((a - b).abs() < 0.02, "{a} {b}");
    }
    // The next adapter continues from these features, and from no others.
    let next = bases.with_state(applied.state.clone().expect("a state")).expect("it fits");
    let after = next.with_task(&task(1.0)).expect("small numbers");
    let mut second = adapted();
    second.task = Some(task(1.0));
    second.facts.space_before = applied.space;
    second.facts.space_after =
        ground.base_id.feature_space_after(after.state()).expect("finite numbers");
    let here = Ground { state: applied.state.as_ref(), ..ground };
    assert!(second.apply(&here).is_ok());
    assert!(matches!(second.apply(&ground), Err(ApplyError::Before { .. })));
}

#[test]
fn an_adapter_for_something_else_is_refused() {
    let file = adapted();
    let known = classes(&["tool"], 1.0, 9);
    let bases = bases();
    let ground = Ground {
        base_id: BaseId::new(BASE),
        adapter: Some(&bases),
        state: None,
        d_feature: D,
        classes: &known,
    };
    let other = Ground { base_id: BaseId::new([8; 32]), ..ground };
    assert!(matches!(file.apply(&other), Err(ApplyError::Base { .. })));
    let no_bases = Ground { adapter: None, ..ground };
    assert!(matches!(file.apply(&no_bases), Err(ApplyError::NoBases)));
    let longer = Ground { d_feature: D + 1, ..ground };
    assert!(matches!(file.apply(&longer), Err(ApplyError::Length { .. })));
    let mut lying = file.clone();
    change_task(&mut lying, |t| t.weight = 0.25);
    assert!(matches!(lying.apply(&ground), Err(ApplyError::After { .. })));
    let mut wider = file.clone();
    change_task(&mut wider, |t| t.update.prompt_step = Some(wave_matrix(2, 8, 0.3)));
    assert!(matches!(wider.apply(&ground), Err(ApplyError::Adapter(_))));
    // Without a drift map the known classes are reported as lost, not dropped silently.
    let silent = AdapterFile { drift: None, ..file };
    assert!(silent.apply(&ground).expect("it fits").known.is_none());
    let nobody = Ground { classes: &[], ..ground };
    assert!(silent.apply(&nobody).expect("it fits").known.is_some());
}

/// A head from the few rows of the file separates the task's classes as well as one from all
/// scatters at the same shrinkage, better than the nearest mean, and its accuracy estimate is that
/// of all scatters.
#[test]
fn the_shared_scatter_keeps_what_the_head_asks_of_it() {
    // Two directions vary eight times as much as the others, so that the nearest mean sees only
    // them.
    let stretched = |mut shot: Vec<f32>| {
        shot[..2].iter_mut().for_each(|v| *v *= 8.0);
        shot
    };
    let mut source = GaussianClasses::new(5, D, 0.6, 3);
    let mut class = |i: usize| {
        let shots: Vec<Vec<f32>> = (0..40).map(|_| stretched(source.shot(i))).collect();
        let name = ClassName::new(&format!("class {i}")).expect("a sound name");
        Arc::new(Class::from_shots(name, &shots).expect("sound shots"))
    };
    let all: Vec<Arc<Class>> = (0..5).map(&mut class).collect();
    let summary = TaskSummary::of(&all, 6).expect("sound classes");
    assert_eq!(summary.scatter.len(), 4 + 6);
    let few = summary.to_classes().expect("sound numbers");
    for (a, b) in all.iter().zip(&few) {
        assert_eq!((&a.name, a.count()), (&b.name, b.count()));
        let energies = a.modes[0].energy() / b.modes[0].energy();
        // With so few directions the stretched shape may have a little more energy than the
        // original.
        assert!((0.9..1.01).contains(&energies), "{energies}");
        b.check(D).expect("statistics that a device may keep");
    }
    let head =
        |classes: &[Arc<Class>], choice| fit_head(classes, D, None, choice, &[]).expect("a head");
    // The shrinkage that leave-one-out chooses on these classes.
    let with_all = head(&all, HeadChoice::Lda(0.03));
    let with_few = head(&few, HeadChoice::Lda(0.03));
    let nearest = head(&few, HeadChoice::NearestMean);
    let expected = [&with_all, &with_few].map(|head| head.estimate.as_ref().map(|e| e.accuracy));
    let away = expected[0].expect("five classes") - expected[1].expect("five classes");
    // A few of 200 stand-ins change sides while the noise is bisected.
    assert!(away.abs() < 0.05, "{expected:?}");
    let mut right = [0; 3];
    for i in 0..1000 {
        let shot = stretched(source.shot(i % 5));
        let heads = [&with_all, &with_few, &nearest];
        for (right, head) in right.iter_mut().zip(heads) {
            let best = &head.predictor.predict(&shot, 1).top[0].class;
            *right += usize::from(best.as_str() == format!("class {}", i % 5));
        }
    }
    let [all, few, nearest] = right;
    // Three standard errors of a difference of two percent.
    assert!(few + 20 >= all, "{all} right with all scatters, {few} with few rows");
    assert!(nearest + 100 < few, "{nearest} right by means alone, {few} with few rows");
}

#[test]
fn an_offer_repeats_the_facts_and_notices_a_difference() {
    let file = adapted();
    let rollout = Rollout { percent: 5, salt: "ab".to_owned() };
    let offer = Offer::new(&file.facts, "stable", rollout);
    offer.check(&file.facts).expect("the same facts");
    let other = AdapterFacts { release: 4, ..file.facts };
    let error = offer.check(&other).expect_err("another release").to_string();
    assert_eq!(error, "the repository says release 3, the adapter says 4");
}

proptest! {
    #[test]
    fn arbitrary_content_of_an_adapter_is_refused_without_a_panic(content in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode_adapter(&seal(FileKind::Adapter, &content)).is_err());
    }

    /// Valid content with a few bytes changed and a new checksum: decoding and applying it must not
    /// panic, and the resulting statistics must be finite.
    #[test]
    fn changed_content_of_an_adapter_is_checked(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut content = encoded(&adapted())[HEADER_BYTES..].to_vec();
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        let Ok((file, _)) = decode_adapter(&seal(FileKind::Adapter, &content)) else { return Ok(()) };
        let known = classes(&["tool"], 1.0, 9);
        let bases = bases();
        let ground = Ground { base_id: BaseId::new(BASE), adapter: Some(&bases), state: None, d_feature: D, classes: &known };
        if let Ok(applied) = file.apply(&ground) {
            for class in applied.known.iter().flatten().chain(&applied.brought) {
                prop_assert!(class.check(D).is_ok());
            }
        }
    }
}
