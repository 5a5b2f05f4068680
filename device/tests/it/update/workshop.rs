//! A workstation that makes sound adapters for a base. Tests then corrupt their files.

use std::sync::{Arc, OnceLock};

use fmlora_device::{Engine, SyntheticCamera, Thing};
use fmlora_learner::format::{
    AdapterFacts, AdapterFile, AdapterName, Base, DaemonVersion, FileKind, HEADER_BYTES,
    Provenance, decode_base, encode_adapter, encode_base, seal,
};
use fmlora_learner::{
    Adapter, AdapterConfig, AdapterState, AdapterTask, BaseId, Class, ClassName, Complexity,
    DriftMap, KnownAnswer, Matrix, SharedBases, SharedBasis, TaskFactors, TaskSummary, TaskUpdate,
    test_pattern,
};
use fmlora_models::{BackboneConfig, DeviceSpec, Place, VitConfig, VitWeights};

/// Number of shots of each class in an adapter.
pub(crate) const BROUGHT: u32 = 12;

/// A base, with all that is needed to make adapters for it.
pub(crate) struct Workshop {
    base: Arc<Base<'static>>,
    pub(crate) base_id: BaseId,
    /// The file of the base; `None` for the embedded base.
    pub(crate) file: Option<&'static [u8]>,
}

/// Returns a number in -1..1. Its pattern does not matter.
fn wave(i: usize, j: usize, seed: f32) -> f32 {
    ((i * 31 + j * 17) as f32 * 0.61 + seed).sin()
}

/// Creates a random network, so small that a command takes no time, with shared bases on query and
/// value of its second block.
fn toy_base() -> Vec<u8> {
    let vit = VitConfig {
        image_size: 32,
        patch_size: 16,
        d_model: 32,
        depth: 2,
        n_heads: 2,
        d_mlp: 32,
        n_registers: 0,
        n_prefix_positions: 1,
        layer_scale: false,
    };
    let backbone = BackboneConfig::of(&vit);
    let rank = 4;
    let of_layer = |place: Place| {
        let d_out = place.site.d_out(&vit);
        let d_in = place.site.d_in(&vit);
        let a = Matrix::from_fn(d_out, rank, |i, j| 0.3 * wave(i, j, 1.0));
        (place, SharedBasis { a, b: Matrix::from_fn(d_in, rank, |i, j| 0.3 * wave(i, j, 2.0)) })
    };
    let places = AdapterConfig::default().places(backbone.first_adapted_block, &vit);
    let bases = SharedBases::new(rank, places.into_iter().map(of_layer).collect());
    let adapter = Some(Adapter::new(Arc::new(bases), None));
    let weights = VitWeights::random(vit, 1).expect("a possible network");
    let provenance = Provenance { name: "toy".to_owned(), ..Provenance::default() };
    encode_base(&Base { provenance, backbone, adapter, prior: None, weights })
        .expect("a sound base")
}

impl Workshop {
    /// Returns the workshop of a base of a few kilobytes, which devices get as a file.
    pub(crate) fn toy() -> &'static Self {
        static TOY: OnceLock<Workshop> = OnceLock::new();
        TOY.get_or_init(|| {
            let file: &'static [u8] = Vec::leak(toy_base());
            Self { file: Some(file), ..Self::of(file) }
        })
    }

    /// Returns the workshop of the embedded base.
    pub(crate) fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Workshop> = OnceLock::new();
        EMBEDDED.get_or_init(|| {
            let name = "../models/base/vit_small6_patch14_140.fmlb";
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            Self::of(Vec::leak(std::fs::read(path).expect("the base")))
        })
    }

    fn of(file: &'static [u8]) -> Self {
        let (base, base_id) = decode_base(file).expect("a sound base");
        Self { base: Arc::new(base), base_id, file: None }
    }

    fn engine(&self, state: Option<&AdapterState>) -> Engine {
        Engine::new(self.base.clone(), state, &DeviceSpec::Cpu).expect("a network")
    }

    fn features(engine: &mut Engine, thing: Thing, n: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut camera = SyntheticCamera::new(seed);
        let preprocess = engine.preprocess();
        let pictures: Vec<_> = (0..n).map(|_| preprocess.apply(&camera.frame(thing))).collect();
        engine.features(&pictures).expect("the processor computes")
    }

    fn known_answer(engine: &mut Engine) -> KnownAnswer {
        let side = engine.preprocess().size;
        let features = engine.features(&[test_pattern(3 * side * side)]).expect("a feature");
        KnownAnswer::of(&features[0]).expect("finite numbers")
    }

    fn summary(engine: &mut Engine, lessons: &[(&str, Thing)]) -> TaskSummary {
        let class = |&(name, thing): &(&str, Thing)| {
            let shots = Self::features(engine, thing, BROUGHT as usize, 5);
            let name = ClassName::new(name).expect("a sound name");
            Arc::new(Class::from_shots(name, &shots).expect("sound shots"))
        };
        let classes: Vec<Arc<Class>> = lessons.iter().map(class).collect();
        TaskSummary::of(&classes, 12).expect("sound classes")
    }

    fn facts(&self, name: &str, release: u64) -> AdapterFacts {
        AdapterFacts {
            name: AdapterName::new(name).expect("a sound name"),
            base_id: self.base_id,
            space_before: self.base_id.feature_space(),
            space_after: self.base_id.feature_space(),
            release,
            min_daemon: DaemonVersion { major: 0, minor: 1, patch: 0 },
        }
    }

    /// Makes an adapter of classes alone: features stay as they are.
    pub(crate) fn rank_0(
        &self,
        name: &str,
        release: u64,
        lessons: &[(&str, Thing)],
    ) -> AdapterFile {
        let mut engine = self.engine(None);
        AdapterFile {
            facts: self.facts(name, release),
            task: None,
            drift: None,
            summary: Self::summary(&mut engine, lessons),
            complexity: Complexity { difficulty: 0.25, novelty: 0.5, evidence: 0.4 },
            rank: 0,
            accuracy: None,
            known_answer: Self::known_answer(&mut engine),
        }
    }

    /// Makes an adapter with classes and a task that moves all features. Other seeds give other
    /// tasks.
    pub(crate) fn moving(
        &self,
        name: &str,
        release: u64,
        lessons: &[(&str, Thing)],
        seed: f32,
    ) -> AdapterFile {
        let bases = self.base.adapter.as_ref().expect("a base with shared bases");
        let task = task(bases, seed);
        let after = bases.with_task(&task).expect("small numbers");
        let space_after = self.base_id.feature_space_after(after.state()).expect("finite numbers");
        let mut old = self.engine(None);
        let mut new = self.engine(Some(after.state()));
        let all = |engine: &mut Engine| -> Vec<Vec<f32>> {
            Thing::ALL.iter().flat_map(|&t| Self::features(engine, t, 8, 9)).collect()
        };
        let before = all(&mut old);
        let gone = all(&mut new);
        let drift = DriftMap::fit(&before, &gone, 0.1).expect("sound features");
        AdapterFile {
            facts: AdapterFacts { space_after, ..self.facts(name, release) },
            task: Some(task),
            drift: Some(drift.low_rank(&before, 16).expect("finite features")),
            rank: 2,
            summary: Self::summary(&mut new, lessons),
            known_answer: Self::known_answer(&mut new),
            ..self.rank_0(name, release, lessons)
        }
    }
}

/// Creates a task of rank 2 that changes the network a little.
fn task(bases: &Adapter, seed: f32) -> AdapterTask {
    let r = bases.bases().rank();
    let places = || bases.bases().by_place().keys();
    let factors = |&place: &Place| {
        let numbers = |seed: f32| Matrix::from_fn(r, 2, |i, j| 0.4 * wave(i, j, seed));
        (place, TaskFactors { m: numbers(seed + 0.3), n: numbers(seed + 1.9) })
    };
    let update =
        TaskUpdate { rank: 2, factors: places().map(factors).collect(), prompt_step: None };
    let grams = places().map(|&place| (place, Matrix::identity(r))).collect();
    AdapterTask { update, weight: 0.5, grams, n_pictures: 40 }.rounded().expect("small numbers")
}

/// Returns the content of an adapter's file.
pub(crate) fn content(adapter: &AdapterFile) -> Vec<u8> {
    encode_adapter(adapter).expect("a sound adapter")[HEADER_BYTES..].to_vec()
}

/// Returns a file of any content, with the right checksum.
pub(crate) fn sealed(content: &[u8]) -> Vec<u8> {
    seal(FileKind::Adapter, content)
}
