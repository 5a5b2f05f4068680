//! Packed blocks of the CPU equal the blocks of every other device: values and gradients.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use fmlora_models::{
    Backbone, BackboneConfig, Place, SideBranch, SideBranches, Site, VitConfig, VitWeights,
};
use fmlora_tests::relative_difference;

/// The same sums in another order, through three blocks, and another approximation of erf and exp.
const TOLERANCE: f32 = 2e-4;

const RANK: usize = 3;

/// Numbers of pictures: fewer than cores, as many, and several groups of which the last may be
/// smaller.
const BATCHES: [usize; 4] = [1, 2, 3, 8];

fn backbone(layer_scale: bool) -> Backbone {
    let config = VitConfig {
        image_size: 40,
        patch_size: 8,
        d_model: 24,
        depth: 4,
        n_heads: 3,
        d_mlp: 40,
        n_registers: 1,
        n_prefix_positions: 1,
        layer_scale,
    };
    let weights = VitWeights::random(config.clone(), 9).expect("a sound shape");
    let split = BackboneConfig { first_adapted_block: 1, ..BackboneConfig::of(&config) };
    Backbone::new(&weights, split, &Device::flex()).expect("fits")
}

fn wave<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f32 * step).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Tensors that may carry a gradient: the three matrices of every site, and the prompt.
struct Leaves {
    branches: BTreeMap<Place, [Tensor<2>; 3]>,
    prompt: Tensor<2>,
}

impl Leaves {
    fn new(backbone: &Backbone, sites: &[Site]) -> Self {
        let vit = backbone.vit_config();
        let leaf = |tensor: Tensor<2>| tensor.mul_scalar(0.3).autodiff().require_grad();
        let mut branches = BTreeMap::new();
        // Block 2 has no branch; gradients must still pass through it.
        for block in [1, 3] {
            for (i, &site) in sites.iter().enumerate() {
                let step = 1.0 + 0.13 * (block * 7 + i) as f32;
                let down = leaf(wave([site.d_in(vit), RANK], step));
                let core = leaf(wave([RANK, RANK], step + 0.5));
                let up = leaf(wave([RANK, site.d_out(vit)], step + 0.9));
                branches.insert(Place { block, site }, [down, core, up]);
            }
        }
        Self { branches, prompt: leaf(wave([2, vit.d_model], 0.77)) }
    }

    fn side_branches(&self) -> SideBranches {
        let branch = |(&place, [down, core, up]): (&Place, &[Tensor<2>; 3])| {
            (place, SideBranch { down: down.clone(), core: core.clone(), up: up.clone() })
        };
        let branches = self.branches.iter().map(branch).collect();
        SideBranches { branches, prompt: Some(self.prompt.clone()) }
    }

    fn all(&self) -> Vec<(String, &Tensor<2>)> {
        let mut all: Vec<(String, &Tensor<2>)> = Vec::new();
        for (place, matrices) in &self.branches {
            let names = ["down", "core", "up"].map(|name| format!("{name} of {place}"));
            all.extend(names.into_iter().zip(matrices));
        }
        all.push(("prompt".to_owned(), &self.prompt));
        all
    }
}

fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.inner().into_data().try_into_vec::<f32>().expect("f32 on the CPU")
}

/// Returns feature and gradients. A pass with an observer goes tensor by tensor.
fn pass(
    backbone: &Backbone,
    batch: usize,
    sites: &[Site],
    watched: bool,
) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    let leaves = Leaves::new(backbone, sites);
    let tokens =
        wave([batch, backbone.vit_config().n_tokens(), backbone.vit_config().d_model], 0.31);
    let mut watch = |_: Place, _: Tensor<2>| {};
    let observer = watched.then_some(&mut watch as &mut dyn FnMut(Place, Tensor<2>));
    let feature = backbone.suffix_with(tokens, &leaves.side_branches(), observer);
    let [batch, d] = feature.dims();
    let loss = (feature.clone() * wave([batch, d], 0.19)).sum();
    let gradients = loss.backward();
    let gradient = |(name, leaf): (String, &Tensor<2>)| {
        (name, numbers(leaf.grad(&gradients).expect("a gradient for every leaf")))
    };
    (numbers(feature), leaves.all().into_iter().map(gradient).collect())
}

#[test]
fn values_and_gradients_are_those_of_the_tensors() {
    let sets: [&[Site]; 3] = [&[Site::Query, Site::Value], &[Site::Fc2], &Site::ALL];
    let mut failures = Vec::new();
    for layer_scale in [false, true] {
        let backbone = backbone(layer_scale);
        for (batch, sites) in BATCHES.iter().flat_map(|&batch| sets.map(|sites| (batch, sites))) {
            let (feature, gradients) = pass(&backbone, batch, sites, false);
            let (expected, expected_gradients) = pass(&backbone, batch, sites, true);
            let mut compare = |name: &str, found: &[f32], expected: &[f32]| {
                let apart = relative_difference(found, expected);
                if apart.is_nan() || apart > TOLERANCE {
                    failures.push(format!(
                        "{batch} pictures, {sites:?}, scales {layer_scale}, {name}: {apart:.1e}"
                    ));
                }
            };
            compare("feature", &feature, &expected);
            for ((name, found), (_, expected)) in gradients.iter().zip(&expected_gradients) {
                assert!(
                    expected.iter().any(|v| v.abs() > 1e-6),
                    "{name} has no gradient to compare"
                );
                compare(name, found, expected);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Folded weights compute the same as the tensors, for every batch size, with a prompt and without.
#[test]
fn features_are_those_of_the_tensors() {
    for layer_scale in [false, true] {
        let packed = backbone(layer_scale);
        let mut branches = Leaves::new(&packed, &Site::ALL).side_branches();
        for branch in branches.branches.values_mut() {
            let plain = |t: &Tensor<2>| t.clone().inner();
            let [down, core, up] = [&branch.down, &branch.core, &branch.up].map(plain);
            *branch = SideBranch { down, core, up };
        }
        let prompt = branches.prompt.take().map(Tensor::inner);
        let without = packed.folded(&branches);
        let with = packed.folded(&SideBranches { prompt, ..branches });
        for network in [packed, without, with] {
            let by_tensor = network.clone().unpacked();
            for batch in BATCHES {
                let tokens = wave([batch, 27, 24], 0.31);
                let expected = by_tensor.suffix(tokens.clone()).into_data();
                let found = network.suffix(tokens).into_data();
                let [found, expected] =
                    [found, expected].map(|data| data.try_into_vec::<f32>().expect("f32"));
                let apart = relative_difference(&found, &expected);
                assert!(apart <= TOLERANCE, "{batch} pictures, scales {layer_scale}: {apart:.1e}");
            }
        }
    }
}

/// Batches are split among threads, and so is a single picture: the result of a picture must not
/// depend on the others in its batch.
#[test]
fn a_picture_gives_the_same_alone_and_in_a_batch() {
    let backbone = backbone(true);
    let n = backbone.vit_config().n_tokens();
    let d = backbone.vit_config().d_model;
    let tokens = wave([5, n, d], 0.41);
    let together = numbers(backbone.suffix(tokens.clone()));
    let width = backbone.d_feature();
    for i in 0..5 {
        let alone = numbers(backbone.suffix(tokens.clone().narrow(0, i, 1)));
        assert_eq!(alone, together[i * width..][..width], "picture {i}");
    }
}
