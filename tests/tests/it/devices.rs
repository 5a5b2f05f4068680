//! Every device computes the same as the CPU, within rounding.

use std::ops::ControlFlow;

use burn::tensor::Device;
use fmlora_learner::{
    AdapterConfig, Examples, HALF_TOLERANCE, PARITY_TOLERANCE, ParityError, TaskHead,
    TrainingConfig, check_parity, train_bases,
};
use fmlora_models::{Backbone, SideBranches, VitWeights};
use fmlora_tests::{
    embedded_network_on, on_every_device, toy_backbone, toy_backbone_on, toy_tokens,
};

on_every_device!(
    the_embedded_base_passes_the_check,
    twenty_steps_end_where_those_of_the_processor_end,
);

fn the_embedded_base_passes_the_check(device: &Device) {
    let cpu = embedded_network_on(&Device::flex());
    // Packed blocks against tensor by tensor: on the CPU too, two implementations are compared.
    let other = embedded_network_on(device).unpacked();
    let parity = check_parity(&cpu, &other, 4).expect("a sound device");
    eprintln!("features differ by {:.1e}, losses by {:.1e}", parity.forward, parity.training);
    // A tenth of the tolerance: the device passes by rounding alone, not by chance.
    assert!(parity.forward.max(parity.training) < 0.1 * PARITY_TOLERANCE, "{parity:?}");
}

fn twenty_steps_end_where_those_of_the_processor_end(device: &Device) {
    let cpu = toy_backbone();
    let (tokens, labels) = toy_tokens(&cpu, 4, 8, 11);
    let rows: Vec<usize> = (0..labels.len()).collect();
    let examples = Examples::new(&tokens, &rows, &labels).expect("a label for every row");
    let layers = AdapterConfig { rank: 4, n_prompt_tokens: 2, ..AdapterConfig::default() };
    let training = TrainingConfig {
        epochs: 5,
        batch_size: 8,
        learning_rate: 0.01,
        patience: None,
        ..TrainingConfig::default()
    };
    let mut on = |_| ControlFlow::Continue(());
    let mut ends = |network: &Backbone| {
        let trained =
            train_bases(network, &examples, TaskHead::Own(4), &layers, &training, &mut on);
        let trained = trained.expect("trained");
        let branches: SideBranches = trained.adapter.side_branches(network.device());
        let found = network.suffix_with(tokens.batch(&rows, network.device()), &branches, None);
        (trained.losses, found.into_data().try_into_vec::<f32>().expect("f32"))
    };
    let (losses, features) = ends(&cpu);
    let (device_losses, device_features) = ends(&toy_backbone_on(device).unpacked());
    assert!(losses[4] < 0.8 * losses[0], "nothing was learnt: {losses:?}");
    let largest = features.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    let differences = features.iter().zip(&device_features).map(|(a, b)| (a - b).abs());
    let apart = differences.fold(0.0, f32::max) / largest;
    eprintln!("after 20 steps features differ by {apart:.1e}");
    // AdamW divides small gradients by their own size, so rounding errors grow from step to step.
    assert!(apart < 0.01, "{apart}");
    for (a, b) in losses.iter().zip(&device_losses) {
        assert!((a - b).abs() < 0.002 * a, "{losses:?} {device_losses:?}");
    }
}

/// The check detects a network with other weights.
#[test]
fn another_network_does_not_pass_the_check() {
    let cpu = toy_backbone();
    let config = cpu.config().clone();
    let shape = cpu.vit_config().clone();
    let weights = VitWeights::random(shape, 6).expect("a sound shape");
    let other = Backbone::new(&weights, config, &Device::flex()).expect("the same shape");
    let found = check_parity(&cpu, &other, 4);
    assert!(matches!(found, Err(ParityError::Differs { what: "features", .. })), "{found:?}");
}

/// Products in f16, on the CPU and on graphics adapters. Burn's ndarray backend has no f16.
mod in_half {
    use fmlora_models::adapters;

    use super::*;

    fmlora_tests::on_device!(cpu: products_in_f16_stay_near_those_in_f32);
    #[cfg(feature = "wgpu")]
    fmlora_tests::on_device!(graphics: products_in_f16_stay_near_those_in_f32);

    fn products_in_f16_stay_near_those_in_f32(device: &Device) {
        if *device != Device::flex() && adapters().iter().any(|adapter| !adapter.f16) {
            eprintln!("skipped: an adapter without f16");
            return;
        }
        let cpu = embedded_network_on(&Device::flex());
        let halved = embedded_network_on(device).halved();
        let parity = check_parity(&cpu, &halved, 4).expect("a sound device");
        eprintln!("features differ by {:.1e}, losses by {:.1e}", parity.forward, parity.training);
        assert!(parity.forward > 1e-5, "nothing was computed in f16: {parity:?}");
        assert!(parity.forward < 0.5 * HALF_TOLERANCE, "{parity:?}");
        assert!(parity.training < 0.1 * PARITY_TOLERANCE, "training is in f32: {parity:?}");
    }
}
