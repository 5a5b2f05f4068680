//! `pretrain`: shared bases and prompt from a broad task 1.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fmlora_learner::format::{decode_base, encode_base};
use fmlora_learner::{AdapterConfig, Examples, Step, TrainingConfig, train_bases};
use fmlora_models::DeviceSpec;
use serde_json::json;

use crate::bench::prepared::tokens_of;
use crate::cli::PretrainArgs;
use crate::files;
use crate::network::network;
use crate::progress::{show_step, training_bar};

pub(super) fn run(args: &PretrainArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let started = Instant::now();
    let bytes = files::read(&args.base)?;
    let (mut base, _) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let backbone = network(&base.weights, &base.backbone, device)?;
    let data = args.data.load()?;
    let n_classes = data.names.len();
    ensure!(n_classes > 1, "the data have {n_classes} class, expected at least two to tell apart");
    let tokens = tokens_of(&backbone, &data.train, "training")?;
    let rows: Vec<usize> = (0..tokens.len()).collect();
    let examples = Examples::new(&tokens, &rows, &data.train.labels)?;
    let layers = AdapterConfig {
        rank: args.layers.rank,
        sites: args.layers.sites(),
        n_prompt_tokens: args.prompt_tokens,
    };
    let training = TrainingConfig {
        epochs: args.epochs,
        learning_rate: args.learning_rate,
        seed: args.seed,
        ..TrainingConfig::default()
    };
    let bar = training_bar()?;
    let mut watch = |step: Step| {
        show_step(&bar, &step);
        ControlFlow::Continue(())
    };
    let trained = train_bases(&backbone, &examples, n_classes, &layers, &training, &mut watch)?;
    bar.finish_and_clear();
    let (bases, state) = trained.adapter.n_bytes();
    base.adapter = Some(trained.adapter);
    // The features are others now.
    base.prior = None;
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
