//! Files of ours: the same content gives the same bytes, and no wrong byte is trusted.

use fmlora_learner::format::{
    Base, FileKind, HEADER_BYTES, Provenance, StateFile, decode_base, decode_state, encode_base,
    encode_state, seal,
};
use fmlora_learner::{AdapterState, BaseId, Class, ClassName};
use fmlora_models::{BackboneConfig, VitConfig, VitWeights};
use fmlora_tests::GaussianClasses;
use proptest::prelude::*;

fn base() -> Vec<u8> {
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
    let base = Base {
        provenance,
        backbone: BackboneConfig::of(&config),
        adapter: None,
        prior: None,
        weights,
    };
    encode_base(&base).expect("a sound base")
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
fn what_is_written_is_read_and_written_alike() {
    let file = base();
    let (decoded, id) = decode_base(&file).expect("what was just written");
    assert_eq!(encode_base(&decoded).expect("the same again"), file);
    assert_eq!(decode_base(&base()).expect("the same content").1, id);
    let file = encode_state(&state()).expect("a sound state");
    assert_eq!(decode_state(&file).expect("what was just written"), state());
}

/// Before version 3 a class had one mode, before version 2 a state had no tasks.
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
    /// A right checksum over arbitrary content: what a careless or hostile program could make.
    #[test]
    fn arbitrary_content_is_refused_without_a_panic(content in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode_base(&seal(FileKind::Base, &content)).is_err());
        // A state of no classes is short enough to be hit by chance; all else must be refused.
        if let Ok(state) = decode_state(&seal(FileKind::State, &content)) {
            prop_assert!(state.classes.is_empty());
        }
    }

    /// Sound content with one byte changed and the checksum made anew: no panic, and statistics that
    /// come through are checked before they are used.
    #[test]
    fn changed_content_is_checked(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let file = encode_state(&state()).expect("a sound state");
        let mut content = file[HEADER_BYTES..].to_vec();
        let at = at.index(content.len());
        content[at] = byte;
        if let Ok(state) = decode_state(&seal(FileKind::State, &content)) {
            for class in state.classes {
                if class.check(8).is_err() {
                    continue;
                }
                for mode in class.modes {
                    prop_assert!(mode.mean().iter().all(|v| v.is_finite()));
                    prop_assert_eq!(mode.mean().len(), 8);
                    prop_assert_eq!(mode.scatter().rows().len() % 8, 0);
                }
            }
        }
    }
}
