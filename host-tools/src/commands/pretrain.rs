//! `pretrain`: trains shared bases and prompt on a broad task 1.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fmlora_learner::format::{decode_base, encode_base};
use fmlora_learner::{
    Adapter, AdapterConfig, Examples, Step, TaskHead, TrainedBases, TrainingConfig, class_means,
    extend_bases, train_bases,
};
use fmlora_models::{Backbone, DeviceSpec};
use serde_json::json;

use crate::bench::prepared::{push_views, tokens_of};
use crate::cli::{HeadName, PretrainArgs};
use crate::files;
use crate::network::network;
use crate::progress::{show_step, training_bar};

/// Share of the target that is spread evenly over all classes, with a cosine head.
const LABEL_SMOOTHING: f64 = 0.1;

const NO_BASES: &str = "the base has no bases to extend: leave --extend out";

pub(super) fn run(args: &PretrainArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let started = Instant::now();
    let bytes = files::read(&args.base)?;
    let (mut base, _) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let backbone = network(&base.weights, &base.backbone, device)?;
    check_rank(args, &backbone, base.adapter.as_ref())?;
    let data = args.data.load()?;
    let n_classes = data.names.len();
    ensure!(n_classes > 1, "the data have {n_classes} class, expected at least two to tell apart");
    let mut tokens = tokens_of(&backbone, &data.train, "training")?;
    let mut labels = data.train.labels.clone();
    push_views(&mut tokens, &backbone, &data.train, &vec![args.views; labels.len()])?;
    labels.extend(data.train.labels.iter().flat_map(|&l| std::iter::repeat_n(l, args.views)));
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let examples = Examples::new(&tokens, &rows, &labels)?;
    let trained = train(args, &backbone, base.adapter.as_ref(), &examples, n_classes)?;
    let (bases, state) = trained.adapter.n_bytes();
    base.adapter = Some(trained.adapter);
    if !args.extend {
        // The features have changed: the prior does not fit them.
        base.prior = None;
    }
    let file = encode_base(&base).with_context(|| args.base.display().to_string())?;
    let (_, base_id) = decode_base(&file).context("the base just made cannot be read back")?;
    files::write_whole(&args.out, &file)?;
    let seconds = started.elapsed().as_secs_f64();
    if as_json {
        return files::line(json!({
            "out": args.out.display().to_string(), "base_id": base_id.to_string(),
            "losses": trained.losses, "trained": trained.n_trained, "bases_bytes": bases,
            "state_bytes": state, "seconds": seconds,
        }));
    }
    files::line(format!(
        "wrote {}: bases of rank {} ({bases} bytes), state {state} bytes, loss {:.3?}, {seconds:.0} s",
        args.out.display(),
        args.layers.rank,
        trained.losses
    ))?;
    files::line(format!("base_id {base_id}"))
}

/// Checks the rank before any picture is read.
fn check_rank(args: &PretrainArgs, backbone: &Backbone, adapter: Option<&Adapter>) -> Result<()> {
    let rank = args.layers.rank;
    let width = backbone.vit_config().d_model;
    ensure!(
        (1..=width).contains(&rank),
        "--rank is {rank}, expected 1 to {width}, the network's width"
    );
    if args.extend {
        let r = adapter.context(NO_BASES)?.bases().rank();
        ensure!(rank > r, "the bases have rank {r} already, expected a larger --rank than {rank}");
    }
    Ok(())
}

/// Trains new bases, or extends those of the base with `--extend`.
fn train(
    args: &PretrainArgs,
    backbone: &Backbone,
    adapter: Option<&Adapter>,
    examples: &Examples<'_>,
    n_classes: usize,
) -> Result<TrainedBases> {
    let cosine = args.head == HeadName::Cosine;
    let training = TrainingConfig {
        epochs: args.epochs,
        batch_size: args.batch_size,
        learning_rate: args.learning_rate,
        label_smoothing: if cosine { LABEL_SMOOTHING } else { 0.0 },
        patch_share: args.patch_share,
        seed: args.seed,
        ..TrainingConfig::default()
    };
    let bar = training_bar()?;
    let mut watch = |step: Step| {
        show_step(&bar, &step);
        ControlFlow::Continue(())
    };
    let rank = args.layers.rank;
    let head_of = |network: &Backbone| -> Result<TaskHead> {
        if cosine {
            let means = class_means(network, examples, n_classes)?;
            return Ok(TaskHead::Cosine(Box::new(means)));
        }
        Ok(TaskHead::Own(n_classes))
    };
    let trained = if args.extend {
        let adapter = adapter.context(NO_BASES)?;
        let head = head_of(&backbone.folded(&adapter.side_branches(backbone.device())))?;
        extend_bases(backbone, examples, head, adapter, rank, &training, &mut watch)?
    } else {
        let layers =
            AdapterConfig { rank, sites: args.layers.sites(), n_prompt_tokens: args.prompt_tokens };
        let head = head_of(backbone)?;
        train_bases(backbone, examples, head, &layers, &training, &mut watch)?
    };
    bar.finish_and_clear();
    Ok(trained)
}
