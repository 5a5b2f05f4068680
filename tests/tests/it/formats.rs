//! File formats of this project: the same content gives the same bytes, and every wrong byte is
//! detected.

use fmlora_learner::format::{
    Base, FileKind, HEADER_BYTES, Provenance, StateFile, decode_base, decode_state, encode_base,
    encode_state, seal,
};
use fmlora_learner::{AdapterState, BaseId, Class, ClassName, Prior, Shots};
use fmlora_models::{BackboneConfig, VitConfig, VitWeights};
use fmlora_tests::GaussianClasses;
use proptest::prelude::*;

fn base() -> Vec<u8> {
    encode_base(&toy_base(None)).expect("a sound base")
}

fn base_with_prior() -> Vec<u8> {
    let base = toy_base(None);
    let d = base.backbone.feature.d_feature(base.weights.config());
    let mut source = GaussianClasses::new(3, d, 1.0, 3);
    let classes: Vec<_> = (0..3).map(|class| source.shots(class, 2 * d)).collect();
    let prior = Prior::estimate(&classes).expect("enough pictures");
    encode_base(&toy_base(Some(prior))).expect("a sound base")
}

fn toy_base(prior: Option<Prior>) -> Base<'static> {
    let config = VitConfig {
        image_size: 16,
        patch_size: 8,
        d_model: 8,
        depth: 2,
        n_heads: 2,
        d_mlp: 16,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale: false,
    };
    let weights = VitWeights::random(config.clone(), 1).expect("a possible network");
    let provenance = Provenance { name: "toy".to_owned(), ..Provenance::default() };
    Base { provenance, backbone: BackboneConfig::of(&config), adapter: None, prior, weights }
}

fn state() -> StateFile {
    let mut source = GaussianClasses::new(2, 8, 1.0, 1);
    let class = |i: usize, source: &mut GaussianClasses| {
        let name = ClassName::new(["cup", "plant"][i]).expect("a sound name");
        Class::from_shots(name, &source.shots(i, 4)).expect("sound shots")
    };
    let base_id = BaseId::new([7; 32]);
    let classes = (0..2).map(|i| class(i, &mut source)).collect();
    StateFile { base_id, feature_space_id: base_id.feature_space(), adapter: None, classes }
}

#[test]
fn files_are_decoded_and_encoded_to_the_same_bytes() {
    let file = base();
    let (decoded, id) = decode_base(&file).expect("what was just written");
    assert_eq!(encode_base(&decoded).expect("the same again"), file);
    assert_eq!(decode_base(&base()).expect("the same content").1, id);
    let file = encode_state(&state()).expect("a sound state");
    assert_eq!(decode_state(&file).expect("what was just written"), state());
}

/// Versions before 3 have one mode per class; versions before 2 have no tasks.
#[test]
fn older_versions_of_a_state_are_read() {
    let now = state();
    let one_mode = |class: &Class| (class.name.clone(), class.modes[0].clone());
    let classes: Vec<_> = now.classes.iter().map(one_mode).collect();
    let no_tasks: Option<AdapterState> = None;
    let first = postcard::to_stdvec(&(now.base_id, now.feature_space_id, &classes));
    let second = postcard::to_stdvec(&(now.base_id, now.feature_space_id, no_tasks, &classes));
    for (version, content) in [(1, first), (2, second)] {
        let mut file = seal(FileKind::State, &content.expect("postcard encodes everything"));
        file[4] = version;
        assert_eq!(decode_state(&file).expect("an older state"), now, "version {version}");
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let file = encode_state(&state()).expect("a sound state");
    for length in 0..file.len() {
        assert!(decode_state(&file[..length]).is_err(), "cut to {length} bytes");
    }
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_state(&flipped).is_err(), "bit {bit} flipped");
    }
    assert!(decode_state(&[file, vec![0]].concat()).is_err(), "a byte too many");
}

#[test]
fn errors_say_what_was_found_and_expected() {
    let file = base();
    let says = |file: &[u8], words: &str| {
        let error = decode_base(file).expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} should say {words:?}");
    };
    says(b"", "not a base");
    says(b"PNG and more of it", "it begins with \"PNG \"");
    says(&file[..HEADER_BYTES - 1], "cut off: 47 bytes, expected 48");
    says(&file[..file.len() - 1], "cut off");
    let mut newer = file.clone();
    newer[4] = 9;
    says(&newer, "format version 9, but this program reads versions up to 4");
    let mut damaged = file.clone();
    damaged[HEADER_BYTES + 100] ^= 1;
    says(&damaged, "checksum");
    says(&encode_state(&state()).expect("a sound state"), "it begins with \"FMLS\"");
}

proptest! {
    /// A valid checksum over arbitrary content, as from a faulty or hostile program.
    #[test]
    fn arbitrary_content_is_refused_without_a_panic(content in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode_base(&seal(FileKind::Base, &content)).is_err());
        // A state without classes is short enough to be hit by chance. Everything else must be
        // rejected.
        if let Ok(state) = decode_state(&seal(FileKind::State, &content)) {
            prop_assert!(state.classes.is_empty());
        }
    }
}

/// Returns a class with several occasions and with views, which has more parts in a file than one
/// burst without views.
fn detailed_class() -> Class {
    let mut source = GaussianClasses::new(1, 8, 1.0, 2);
    let views = source.shots(0, 4);
    let mut shots = Shots::default();
    source.shots(0, 2).into_iter().for_each(|shot| shots.push(shot, &views));
    let name = ClassName::new("mug").expect("a sound name");
    let class = Class::from_viewed(name, &shots).expect("sound shots");
    class.with_shots(&source.shots(0, 3)).expect("sound shots")
}

/// Iterates over copies of `content` with one byte changed, for each byte and each of `values`.
fn with_one_byte_changed(
    content: &[u8],
    values: impl Iterator<Item = u8> + Clone,
) -> impl Iterator<Item = Vec<u8>> {
    (0..content.len()).flat_map(move |at| {
        values.clone().map(move |value| {
            let mut changed = content.to_vec();
            changed[at] = value;
            changed
        })
    })
}

/// Valid content with one byte changed and a valid checksum: no panic, and statistics that pass the
/// check are usable.
#[test]
fn every_changed_byte_of_a_state_is_checked() {
    let mut state = state();
    state.classes.push(detailed_class());
    let file = encode_state(&state).expect("a sound state");
    for content in with_one_byte_changed(&file[HEADER_BYTES..], 0..=255) {
        let Ok(state) = decode_state(&seal(FileKind::State, &content)) else { continue };
        for class in state.classes.iter().filter(|class| class.check(8).is_ok()) {
            for mode in &class.modes {
                assert!(mode.mean().iter().all(|v| v.is_finite()));
                assert_eq!(mode.mean().len(), 8);
                assert_eq!(mode.scatter().rows().len() % 8, 0);
                assert_eq!(mode.views().rows().len() % 8, 0);
            }
        }
    }
}

/// The same for a base. It has many weights, so only some values of each byte are tried.
#[test]
fn every_changed_byte_of_a_base_is_checked() {
    let file = base_with_prior();
    for content in with_one_byte_changed(&file[HEADER_BYTES..], [0, 1, 4, 127, 255].into_iter()) {
        let sealed = seal(FileKind::Base, &content);
        let Ok((base, _)) = decode_base(&sealed) else { continue };
        let d = base.backbone.feature.d_feature(base.weights.config());
        assert!(base.prior.is_none_or(|prior| prior.check(d).is_ok()));
    }
}
